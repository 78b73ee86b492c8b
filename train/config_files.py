"""Configurations from presets, files and `key=value` overrides; a file may extend another one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vice.data_specs.errors import InputError
from vice.data_specs.validation import parse
from vice.train.config import OptimiserConfig, TrainConfig

EXTENDS = "extends"
"""Key of a file: the preset, or the file beside it, whose values it changes."""

OWN = frozenset({"name", "paper"})
"""What a file does not take from the one it extends: with other values it is another run, and no row of the paper."""


def presets() -> dict[str, TrainConfig]:
    """All presets by name, sorted."""
    return {name: load_config(name) for name in _preset_names()}


def load_config(preset_or_file: str, overrides: Iterable[str] = ()) -> TrainConfig:
    """A preset by name or a YAML file by path, with `key.part=value` overrides.

    Raises:
        InputError: no such preset, not YAML, files that extend each other, an unknown key or a wrong value; lists the
            choices.
    """
    page = _find(preset_or_file, beside=Path())
    data = _resolve(page, ())
    changes: dict[str, Any] = {}
    for override in overrides:
        _apply(changes, override, data)
    return parse(TrainConfig, _merged(data, changes), where=page.where)


OF_OPTIMISER = frozenset({"learning_rate", "weight_decay"})
"""What belongs to one optimiser: a rate of LARS would destroy a network under AdamW."""
DEFAULT_OPTIMISER = OptimiserConfig().name
"""Of files that name none."""


class _Page(NamedTuple):
    """A YAML file that was found."""

    where: str
    """As errors name it."""
    text: str
    folder: Path
    """Where files that it extends are looked for."""
    source: str
    """One for each file, however its path is written."""


def _preset_names() -> list[str]:
    folder = resources.files("vice.train") / "presets"
    return sorted(page.name.removesuffix(".yaml") for page in folder.iterdir() if page.name.endswith(".yaml"))


def _find(name: str, *, beside: Path) -> _Page:
    """A preset by name, or a file by its path from a folder."""
    if name in _preset_names():
        preset = resources.files("vice.train") / "presets" / f"{name}.yaml"
        where = f"preset {name}"
        return _Page(where, preset.read_text(encoding="utf-8"), Path(), source=where)
    path = beside / name
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return _Page(str(path), _text(path), path.parent, source=str(path.resolve()))
    raise InputError("unknown preset", where=repr(name), hint=f"{_choices()}, or give a .yaml file")


def _choices() -> str:
    return f"choose from {', '.join(_preset_names())}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError("not text in UTF-8", where=path, hint="save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, hint="check its permissions") from None


def _resolve(page: _Page, below: tuple[_Page, ...]) -> dict[str, Any]:
    """A page's values over those that it extends; `below` are the pages that extend it."""
    if page.source in {other.source for other in below}:
        circle = " -> ".join(other.where for other in (*below, page))
        raise InputError("configurations extend each other", where=circle, hint=f"extend a preset: {_choices()}")
    data = _yaml(page.text, page.where)
    base = data.pop(EXTENDS, None)
    if base is None:
        return data
    extended = _resolve(_find(str(base), beside=page.folder), (*below, page))
    return _merged({key: value for key, value in extended.items() if key not in OWN}, data)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings with some values changed; another optimiser inherits no rate or weight decay."""
    merged = dict(base)
    if "name" in changes and changes["name"] != base.get("name", DEFAULT_OPTIMISER):
        merged = {key: value for key, value in merged.items() if key not in OF_OPTIMISER}
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _yaml(text: str, where: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"not readable as YAML ({error})", where=where) from None
    if not isinstance(data, dict):
        raise InputError("a configuration is a YAML mapping", where=where, hint="see vice-train presets")
    return data


def _apply(changes: dict[str, Any], override: str, data: dict[str, Any]) -> None:
    """Put `a.b=value` into nested mappings; values are read as YAML, so numbers and lists are themselves.

    Args:
        changes: where it is put.
        override: as typed.
        data: what is to be changed, which says what has no parts.
    """
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise InputError("not an override", where=repr(override), hint="write key=value, as in views.num_views=4")
    *parents, last = path.split(".")
    known: Any = data
    for count, parent in enumerate(parents, start=1):
        known = known.get(parent, {}) if isinstance(known, dict) else known
        changes = changes.setdefault(parent, {})
        if not isinstance(known, dict) or not isinstance(changes, dict):
            whole = ".".join(parents[:count])
            raise InputError(f"'{whole}' has no parts", where=repr(override), hint=f"set it whole: {whole}=value")
    changes[last] = _yaml_value(value, override)


def _yaml_value(value: str, override: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError("the value is not readable", where=repr(override), hint="write it as YAML") from None

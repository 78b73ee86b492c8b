"""A user's own encoder: any Python object with `stride` and `embed`, named as `module:object` or `file.py:object`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import sha256_file
from vice.evaluate.encoders.checked import CheckedEncoder


class Found(NamedTuple):
    """An object that was tried and does what an encoder has to."""

    encoder: CheckedEncoder
    identity: dict[str, str]
    """What tells it from others: its source file, its own `fingerprint`, and what it makes of fixed pictures."""


def load_object(source: str) -> Found:
    """Import an encoder; a class or a function is called without arguments to make it.

    Raises:
        InputError: it cannot be imported, or is no encoder: says which part of the protocol it breaks.
    """
    place, _, name = source.rpartition(":")
    module = _module(place, source)
    try:
        found = getattr(module, name)
    except AttributeError:
        raise InputError(f"has no object '{name}'", where=place, hint="write it as module:object") from None
    if inspect.isclass(found) or (callable(found) and not hasattr(found, "embed")):
        found = _made(found, source)
    encoder = CheckedEncoder(found, source)
    file = Path(module.__file__) if getattr(module, "__file__", None) else None
    identity = {
        "object": source,
        "source": sha256_file(file) if file else "",
        "fingerprint": _fingerprint(found, source),
        "probe": encoder.probe,
    }
    return Found(encoder, identity)


def _made(make: Callable[[], Any], source: str) -> Any:
    try:
        return make()
    except Exception as error:
        what = f"raised {type(error).__name__}: {error}"
        raise InputError(what, where=f"{source}()", hint="try it in Python; --debug prints where") from error


def _fingerprint(found: Any, source: str) -> str:
    """The object's own, of its weights for example; empty where it has none."""
    own = getattr(found, "fingerprint", "")
    if not isinstance(own, str):
        raise InputError(f"its fingerprint is {type(own).__name__}", where=source, hint="give a text, or leave it out")
    return own


def _module(place: str, source: str) -> ModuleType:
    path = Path(place)
    try:
        if path.suffix != ".py":
            return importlib.import_module(place)
        if not path.is_file():
            raise InputError("no such file", where=place, hint="write the encoder as file.py:object")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a user's module can raise anything
        hint = "write the encoder as module:object, file.py:object, timm/NAME, or give a checkpoint"
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"cannot be imported ({told})", where=source, hint=hint) from None

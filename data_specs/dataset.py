"""Dataset specs: how the files of a dataset are named, which classes it has, what its label values mean."""

from __future__ import annotations

import re
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from pydantic import Field, field_validator, model_validator

from vice.data_specs.errors import InputError
from vice.data_specs.regions import IGNORE
from vice.data_specs.validation import StrictModel, parse


class PictureName(NamedTuple):
    """What a spec reads from a picture's path."""

    label: str | None
    """Path of its label map relative to SOURCE, or None where the dataset has none."""
    group: str | None
    """What it belongs to (a drive, a patient), for leave-one-group-out evaluation."""


class DatasetSpec(StrictModel):
    """A dataset, as its YAML page in `data_specs/datasets` or the user's own file says."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Short name, as given to `--dataset`."""
    title: str
    """One line that says what it is."""
    pictures: str
    """Regular expression of a picture's path relative to SOURCE, with a named part `id` and optionally `group`."""
    labels: str | None = None
    """Path of a picture's label map relative to SOURCE, with the parts of `pictures` in braces."""
    classes: list[str] = []
    """Names of the classes; a stored label is the position in this list."""
    label_map: dict[int, int] = {}
    """Label value in the file to class; values not named here stand for themselves."""
    ignore: list[int] = []
    """Label values in the file that count as no class (stored as the ignore value)."""
    source: str = ""
    """Where the data come from and into which folders, for data that must be fetched by hand."""

    @field_validator("pictures")
    @classmethod
    def _has_id(cls, pattern: str) -> str:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        if "id" not in compiled.groupindex:
            raise ValueError("needs a named part (?P<id>...)")
        return pattern

    @model_validator(mode="after")
    def _labels_fit(self) -> DatasetSpec:
        if (self.labels is None) != (not self.classes):
            raise ValueError("'labels' and 'classes' go together")
        if self.labels is not None:
            unknown = set(re.findall(r"\{(\w+)\}", self.labels)) - set(re.compile(self.pictures).groupindex)
            if unknown:
                raise ValueError(f"'labels' names {sorted(unknown)}, which 'pictures' does not")
        if any(not 0 <= value < len(self.classes) for value in self.label_map.values()):
            raise ValueError(f"'label_map' leads to a class outside 0..{len(self.classes) - 1}")
        return self

    @cached_property
    def _label_pattern(self) -> re.Pattern[str] | None:
        if self.labels is None:
            return None
        return re.compile(
            "".join(".+" if i % 2 else re.escape(s) for i, s in enumerate(re.split(r"(\{\w+\})", self.labels)))
        )

    def is_label(self, path: str) -> bool:
        """Whether a path relative to SOURCE is a label map of this dataset."""
        return self._label_pattern is not None and self._label_pattern.fullmatch(path) is not None

    def picture(self, path: str) -> PictureName | None:
        """What the path of a picture (relative to SOURCE, `/` between parts) says, or None where it fits no picture."""
        match = re.match(self.pictures, path)
        if match is None:
            return None
        parts = match.groupdict()
        return PictureName(self.labels and self.labels.format(**parts), parts.get("group"))

    def classes_of(self, labels: np.ndarray) -> np.ndarray:
        """Map label values of a file to stored classes.

        Args:
            labels: uint8 or uint16 [h, w], values as in the file.

        Returns:
            uint16 [h, w], classes 0..C-1 or IGNORE.

        Raises:
            InputError: a value is neither a class nor ignored.
        """
        table = np.full(65536, -1, np.int32)
        table[: len(self.classes)] = np.arange(len(self.classes))
        for value, target in self.label_map.items():
            table[value] = target
        table[self.ignore] = IGNORE
        mapped = table[labels]
        if (mapped < 0).any():
            wrong = sorted({int(value) for value in np.unique(labels[mapped < 0])})
            raise InputError(
                f"label value {wrong[0]} is no class of dataset '{self.name}'", hint="map or ignore it in the spec"
            )
        return mapped.astype(np.uint16)


def builtin_datasets() -> list[str]:
    """Names of the dataset specs that come with the package, sorted."""
    folder = resources.files("vice.data_specs") / "datasets"
    return sorted(page.name.removesuffix(".yaml") for page in folder.iterdir() if page.name.endswith(".yaml"))


def load_dataset(name_or_path: str) -> DatasetSpec:
    """Load a dataset spec by name, or the user's own YAML file by path.

    Raises:
        InputError: no such spec (lists the names), or the file is no valid spec.
    """
    if name_or_path in builtin_datasets():
        text = (resources.files("vice.data_specs") / "datasets" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        return parse(DatasetSpec, yaml.safe_load(text), where=f"dataset {name_or_path}")
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"} or not path.is_file():
        choices = ", ".join(builtin_datasets())
        raise InputError(
            "unknown dataset", where=repr(name_or_path), hint=f"choose from {choices}, or give a .yaml file"
        )
    return parse(DatasetSpec, _yaml_mapping(path), where=path)


def _yaml_mapping(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not readable as YAML ({error})", where=path) from None
    if not isinstance(data, dict):
        raise InputError("a dataset spec is a YAML mapping", where=path, hint="see data_specs/datasets for examples")
    return data

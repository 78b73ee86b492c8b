"""Dataset specs: how the files of a dataset are named, which classes it has, what its label values mean."""

from __future__ import annotations

import re
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import yaml
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vice.data_specs.errors import InputError
from vice.data_specs.layout import LabelTemplate, Layout, PathPattern, PictureName, PicturePattern, check_template
from vice.data_specs.regions import IGNORE
from vice.data_specs.selection import ReadText, Selection, SplitRule, read_ids
from vice.data_specs.validation import StrictModel, parse

__all__ = ["ClassSet", "ClassTable", "DatasetSpec", "PictureName", "builtin_datasets", "load_dataset"]

_NAME = re.compile(r"[a-z0-9_]+")


def _unique(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names '{twice[0]}' twice")
    return names


def _names(data: object) -> object:
    """Keys as text (YAML reads `19:` as a number), each fit for a command line."""
    if not isinstance(data, dict):
        return data
    wrong = [key for key in data if not _NAME.fullmatch(str(key))]
    if wrong:
        raise ValueError(f"{str(wrong[0])!r} is no name: use a-z, 0-9 and _")
    return {str(key): value for key, value in data.items()}


ClassNames = Annotated[list[str], AfterValidator(_unique)]
LabelValue = Annotated[int, Field(ge=0, le=65535)]


class ClassSet(StrictModel):
    """A coarser or smaller set of classes, made from the stored ones."""

    classes: Annotated[ClassNames, Field(min_length=1)]
    """Names of its classes."""
    of: list[int | None]
    """Per stored class its class in this set; null where it is ignored."""


class ClassTable(NamedTuple):
    """A class set as evaluation uses it."""

    classes: list[str]
    table: np.ndarray
    """uint16 [65536]: stored label to label of the set; IGNORE stays IGNORE."""


class DatasetSpec(StrictModel):
    """A dataset, as its YAML page in `data_specs/datasets` or the user's own file says."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Short name, as given to `--dataset`."""
    title: str
    """One line that says what it is."""
    pictures: PicturePattern
    """Regular expression of a picture's path below SOURCE, with a named part `id`, optionally `group` and `split`."""
    labels: LabelTemplate | None = None
    """Path of a picture's label map relative to SOURCE, with the parts of `pictures` in braces."""
    other_layouts: list[Layout] = []
    """Other places where the same files may lie, tried in this order."""
    beside: PathPattern | None = None
    """Regular expression of files that belong to the dataset and are neither pictures nor label maps: no inputs."""
    splits: Annotated[dict[str, SplitRule], BeforeValidator(_names)] = {}
    """Per name that `--split` may have, which pictures belong to it; without any, all do under every name."""
    classes: ClassNames = []
    """Names of the classes; a stored label is the position in this list."""
    first_label: int = Field(default=0, ge=0)
    """Label value in the file of the first class; the others follow it."""
    label_map: dict[LabelValue, int] = {}
    """Label value in the file to class; values not named here are counted from `first_label`."""
    ignore: list[LabelValue] = []
    """Label values in the file that count as no class (stored as the ignore value)."""
    class_sets: Annotated[dict[str, ClassSet], BeforeValidator(_names)] = {}
    """Coarser or smaller sets of classes that an evaluation can ask for, by name."""
    source: str = ""
    """Where the data come from and into which folders, for data that must be fetched by hand."""

    @model_validator(mode="after")
    def _labels_fit(self) -> DatasetSpec:
        if (self.labels is None) != (not self.classes):
            raise ValueError("'labels' and 'classes' go together")
        check_template(self.labels, self.pictures)
        for number, layout in enumerate(self.other_layouts):
            if (layout.labels is None) != (self.labels is None):
                raise ValueError(f"'other_layouts.{number}.labels': every layout has label maps, or none has")
        if self.first_label + len(self.classes) > IGNORE:
            raise ValueError(f"'first_label': the last class would have a label value above {IGNORE - 1}")
        for value, target in self.label_map.items():
            if not 0 <= target < len(self.classes):
                raise ValueError(f"'label_map.{value}' leads to a class outside 0..{len(self.classes) - 1}")
            if value in self.ignore:
                raise ValueError(f"'label_map.{value}' is in 'ignore' too")
        return self

    @model_validator(mode="after")
    def _class_sets_fit(self) -> DatasetSpec:
        for name, chosen in self.class_sets.items():
            if len(chosen.of) != len(self.classes):
                raise ValueError(f"'class_sets.{name}.of' has {len(chosen.of)} entries for {len(self.classes)} classes")
            wrong = [target for target in chosen.of if target is not None and not 0 <= target < len(chosen.classes)]
            if wrong:
                last = len(chosen.classes) - 1
                raise ValueError(f"'class_sets.{name}.of' leads to class {wrong[0]}, outside 0..{last}")
        return self

    @model_validator(mode="after")
    def _splits_fit(self) -> DatasetSpec:
        if not any(layout.has_splits for layout in self.layouts):
            for name, rule in self.splits.items():
                if rule.part is not None:
                    raise ValueError(f"'splits.{name}.part' needs a named part (?P<split>...) in 'pictures'")
        return self

    @cached_property
    def layouts(self) -> list[Layout]:
        """The main layout and the others, in the order in which they are tried."""
        return [Layout(pictures=self.pictures, labels=self.labels), *self.other_layouts]

    @cached_property
    def _beside_pattern(self) -> re.Pattern[str] | None:
        return None if self.beside is None else re.compile(self.beside, re.DOTALL)

    def is_label(self, path: str) -> bool:
        """Whether a path relative to SOURCE is a label map of this dataset."""
        return any(layout.is_label(path) for layout in self.layouts)

    def is_beside(self, path: str) -> bool:
        """Whether a path relative to SOURCE belongs to the dataset without being a picture or a label map."""
        listed = any(rule.ids == path for rule in self.splits.values())
        return listed or (self._beside_pattern is not None and self._beside_pattern.match(path) is not None)

    def parts(self, path: str) -> dict[str, str] | None:
        """The named parts of the path of a picture, or None where it fits no picture."""
        return next((parts for layout in self.layouts if (parts := layout.parts(path)) is not None), None)

    def picture(self, path: str) -> PictureName | None:
        """What the path of a picture (relative to SOURCE, `/` between parts) says, or None where it fits no picture."""
        for layout in self.layouts:
            parts = layout.parts(path)
            if parts is not None:
                return PictureName(layout.label_of(parts), parts.get("group"))
        return None

    def selection(self, split: str | None, read_text: ReadText) -> Selection:
        """Which files are inputs of a split.

        Args:
            split: as given to `--split`; None takes the pictures of every split.
            read_text: reads a file below SOURCE, for the splits that a list of ids makes.

        Raises:
            InputError: the dataset has splits and this is none of them, or its list of ids cannot be read.
        """
        if split is None or not self.splits:
            return Selection(self, None)
        if split not in self.splits:
            what = f"dataset '{self.name}' has no such split"
            raise InputError(what, where=f"--split {split}", hint=f"choose from {', '.join(self.splits)}")
        rule = self.splits[split]
        ids = None if rule.ids is None else read_ids(rule.ids, read_text, hint=self.source or None)
        return Selection(self, split, ids, rule)

    def missing_data_error(self, where: object, *, what: str = "picture", split: str | None = None) -> InputError:
        """The error for a source that lacks the data: says from where to fetch them and into which folders."""
        of_split = "" if split is None else f", split '{split}',"
        hint = self.source or f"pictures match {self.pictures}"
        return InputError(f"no {what} of dataset '{self.name}'{of_split} in the source", where=where, hint=hint)

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
        table[self.first_label : self.first_label + len(self.classes)] = np.arange(len(self.classes))
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

    def class_set(self, name: str) -> ClassTable:
        """A coarser or smaller set of classes, with the table that makes its labels from stored ones.

        Raises:
            InputError: the dataset has no such set (lists those it has).
        """
        if name not in self.class_sets:
            have = f"choose from {', '.join(self.class_sets)}" if self.class_sets else "its spec has no 'class_sets'"
            raise InputError(f"dataset '{self.name}' has no such set of classes", where=name, hint=have)
        chosen = self.class_sets[name]
        table = np.full(65536, IGNORE, np.uint16)
        table[: len(chosen.of)] = [IGNORE if target is None else target for target in chosen.of]
        return ClassTable(chosen.classes, table)


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

"""Where the files of a dataset lie: what the path of a picture says, and which file is its label map."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, model_validator

from vice.data_specs.validation import StrictModel


class PictureName(NamedTuple):
    """What a spec reads from a picture's path."""

    label: str | None
    """Path of its label map relative to SOURCE, or None where the dataset has none."""
    group: str | None
    """What it belongs to (a drive, a patient), for leave-one-group-out evaluation."""


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    return pattern


def _with_id(pattern: str) -> str:
    if "id" not in re.compile(pattern).groupindex:
        raise ValueError("needs a named part (?P<id>...)")
    return pattern


def _template(text: str) -> str:
    if re.search(r"[{}]", re.sub(r"\{\w+\}", "", text)):
        raise ValueError("braces hold the name of a part, as in labels/{id}.png")
    return text


PathPattern = Annotated[str, AfterValidator(_regular_expression)]
"""Regular expression, matched from the start of a path relative to SOURCE; `.` matches line breaks too."""
PicturePattern = Annotated[PathPattern, AfterValidator(_with_id)]
LabelTemplate = Annotated[str, AfterValidator(_template)]


def check_template(labels: str | None, pictures: str) -> None:
    """Refuse (ValueError) a template of label maps with a part that the pictures' pattern does not have."""
    unknown = set(re.findall(r"\{(\w+)\}", labels or "")) - set(re.compile(pictures).groupindex)
    if unknown:
        raise ValueError(f"'labels' names {sorted(unknown)}, which 'pictures' does not")


class Layout(StrictModel):
    """One way in which pictures and label maps may lie below SOURCE."""

    pictures: PicturePattern
    """Regular expression of a picture's path, with a named part `id` and optionally `group` and `split`."""
    labels: LabelTemplate | None = None
    """Path of a picture's label map, with the parts of `pictures` in braces."""

    @model_validator(mode="after")
    def _labels_name_parts(self) -> Layout:
        check_template(self.labels, self.pictures)
        return self

    @cached_property
    def _picture_pattern(self) -> re.Pattern[str]:
        return re.compile(self.pictures, re.DOTALL)

    @cached_property
    def _label_pattern(self) -> re.Pattern[str] | None:
        if self.labels is None:
            return None
        pieces = re.split(r"(\{\w+\})", self.labels)
        return re.compile(
            "".join(".+" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)), re.DOTALL
        )

    @property
    def has_splits(self) -> bool:
        """Whether a picture's path says which split it belongs to."""
        return "split" in self._picture_pattern.groupindex

    def parts(self, path: str) -> dict[str, str] | None:
        """The named parts of a picture's path (without those that matched nothing), or None where it is no picture."""
        match = self._picture_pattern.match(path)
        return match and {name: part for name, part in match.groupdict().items() if part is not None}

    def label_of(self, parts: dict[str, str]) -> str | None:
        """Path of the label map of the picture with these parts."""
        return self.labels and re.sub(r"\{(\w+)\}", lambda match: parts.get(match[1], ""), self.labels)

    def is_label(self, path: str) -> bool:
        """Whether a path is that of a label map."""
        return self._label_pattern is not None and self._label_pattern.fullmatch(path) is not None

"""Which files of a source are the inputs of a job: the pictures of one split, and whatever belongs to nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import field_validator

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint
from vice.data_specs.validation import StrictModel

if TYPE_CHECKING:
    from vice.data_specs.dataset import DatasetSpec

ReadText = Callable[[str], str]
"""Reads a text file by its path relative to SOURCE; raises FileNotFoundError where there is none."""


class SplitRule(StrictModel):
    """Which pictures belong to a split; with neither field, all do."""

    part: str | None = None
    """Value of the part `split` of a picture's path; in a layout without that part, every picture belongs."""
    ids: str | None = None
    """Path below SOURCE of a text file with one id a line: only these pictures belong."""

    @field_validator("ids")
    @classmethod
    def _below_source(cls, path: str | None) -> str | None:
        if path is not None and (not path or path.startswith("/") or ".." in PurePosixPath(path).parts):
            raise ValueError("give a path relative to SOURCE, and below it")
        return path


@dataclass(frozen=True)
class Selection:
    """The inputs of one split of a dataset, told by path."""

    spec: DatasetSpec
    split: str | None
    """None takes the pictures of every split."""
    ids: frozenset[str] | None = None
    """Ids of the pictures that belong; None where the split has no list."""
    rule: SplitRule = field(default_factory=SplitRule)

    def is_input(self, path: str) -> bool:
        """Whether a file of the source is to be worked on.

        Label maps, what lies beside the pictures, and pictures of other splits are not. A file that belongs to nothing
        is: it ends in the list of rejected inputs, by name.
        """
        if self.spec.is_label(path):
            return False
        parts = self.spec.parts(path)
        if parts is None:
            return not self.spec.is_beside(path)
        if self.rule.part is not None and parts.get("split", self.rule.part) != self.rule.part:
            return False
        return self.ids is None or parts["id"] in self.ids

    def identity(self) -> list[str]:
        """What decides the inputs beside the names of the files: the fingerprint of the list of ids, if there is one.

        A list with other ids can be of the same size as before.
        """
        return [] if self.ids is None else [fingerprint(sorted(self.ids))]

    def check_present(self, *, has_picture: bool, has_label: bool, where: object) -> None:
        """Refuse a source that lacks what must be fetched by hand, rather than reject its files one by one.

        Args:
            has_picture: an input of the source is a picture of the dataset.
            has_label: a file of the source is a label map of the dataset.
            where: the source, for the message.

        Raises:
            InputError: the spec says where the data come from, and no picture or no label map is there.
        """
        if not self.spec.source:
            return
        if not has_picture:
            raise self.spec.missing_data_error(where, split=self.split)
        if self.spec.labels is not None and not has_label:
            raise self.spec.missing_data_error(where, what="label map", split=self.split)


def read_ids(path: str, read_text: ReadText, *, hint: str | None) -> frozenset[str]:
    """The ids that a text file lists, one a line; blank lines do not count.

    Raises:
        InputError: the file is missing, is no text, or is empty.
    """
    try:
        ids = frozenset(line.strip() for line in read_text(path).splitlines() if line.strip())
    except FileNotFoundError:
        raise InputError("the split's list of ids is missing", where=path, hint=hint) from None
    except UnicodeDecodeError:
        raise InputError("the split's list of ids is no text", where=path, hint=hint) from None
    if not ids:
        raise InputError("the split's list of ids is empty", where=path, hint=hint)
    return ids

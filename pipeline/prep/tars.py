"""What an input is; and tars as sources: every picture of a tar is an input.

For the dataset's spec a tar is a root of its own: patterns see the names of its members.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.selection import Selection
from vice.pipeline.prep.tar_headers import Place
from vice.pipeline.prep.tar_members import Member, TarMembers
from vice.pipeline.storage.base import is_hidden

PICTURE_SUFFIXES = frozenset(
    """jpg jpeg jpe jfif png webp tif tiff bmp dib gif avif avifs
    heic heif jp2 j2k jpx ppm pgm pbm pnm ico""".split()  # noqa: SIM905 - a list of strings would fill the page
)
"""Suffixes by which the pictures of a tar are found."""

NO_PLACE = Place(-1, -1)


class Input(NamedTuple):
    """An input: a file by itself, or a picture in a tar."""

    path: str
    """Relative to the source's root; of a file in a tar the tar's path, then the member's."""
    tar: str | None = None
    """Path of the tar it lies in."""
    picture: Place | None = None
    """Where it lies there."""
    label: Place | None = None
    """Where its label map lies there; None where the tar has none."""
    problem: str | None = None
    """Why it cannot be read, where that is known already: a tar that breaks off, or a link in it that leads nowhere."""
    header_size: int = 0
    """Bytes of the header before it where only the tar's index says where it lies; else 0."""

    @property
    def name(self) -> str:
        """Its path as the dataset's spec sees it: in a tar, the member's."""
        return self.path if self.tar is None else self.path[len(self.tar) + 1 :]


class TarListing(NamedTuple):
    """The inputs of a tar."""

    paths: pa.LargeBinaryArray
    """Sorted by their bytes."""
    places: np.ndarray
    """int64 [n, 4]: offset and size of the picture, offset and size of the label map; -1 where there is none."""
    problems: dict[str, str]
    """By path, why an input cannot be read."""
    has_picture: bool
    """Whether one is a picture of the dataset."""
    header_size: int
    """Bytes of the header before each where only the tar's index says where they lie; else 0."""


def list_tar(tar: str, found: TarMembers, selection: Selection) -> TarListing:
    """The inputs of a tar.

    As in a folder, every member is an input that is not hidden, no label map, and not named by the spec as something
    else. What has no picture's suffix is left out where its sample (members with the same name up to the first dot)
    has a picture: `a.json` and `a.cls` describe `a.jpg`. What cannot be read is an input too, to be rejected by name.

    Args:
        tar: path of the tar.
        found: its members.
        selection: which files are inputs.
    """
    inputs = _inputs(tar, found, selection)
    rows = [(*(one.picture or NO_PLACE), *(one.label or NO_PLACE)) for one in inputs]
    return TarListing(
        pa.array([os.fsencode(one.path) for one in inputs], pa.large_binary()),
        np.array(rows, np.int64).reshape(-1, 4),
        {one.path: one.problem for one in inputs if one.problem},
        any(selection.spec.picture(one.name) for one in inputs if one.picture),
        found.header_size,
    )


def _inputs(tar: str, found: TarMembers, selection: Selection) -> list[Input]:
    places = found.places()
    files = [member for member in found.members if not is_hidden(member.name) and selection.is_input(member.name)]
    with_picture = {_sample(one.name) for one in files if _has_picture_suffix(one.name) and _fits(one, selection)}
    inputs = [
        Input(f"{tar}/{one.name}", problem=one.problem)
        if one.place is None
        else Input(f"{tar}/{one.name}", tar, one.place, _label(one.name, places, selection.spec))
        for one in files
        if _has_picture_suffix(one.name) or _sample(one.name) not in with_picture
    ]
    if found.problem is not None:
        inputs.append(Input(tar, problem=found.problem))
    return sorted(inputs, key=lambda one: os.fsencode(one.path))


def _sample(path: str) -> str:
    """The key that WebDataset gives a member: its path up to the first dot of its name."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.split('.')[0]}"


def _fits(member: Member, selection: Selection) -> bool:
    return selection.spec.picture(member.name) is not None


def _has_picture_suffix(path: str) -> bool:
    return path.rpartition(".")[2].lower() in PICTURE_SUFFIXES


def _label(path: str, places: dict[str, Place], spec: DatasetSpec) -> Place | None:
    name = spec.picture(path)
    return None if name is None or name.label is None else places.get(name.label)

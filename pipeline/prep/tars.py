"""What an input is; and tars as sources: a sample of a tar (files of one key) is one input.

For the dataset's spec a tar is a root of its own: patterns see the names of its members.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.selection import Selection
from vice.pipeline.storage.base import Storage

PICTURE_SUFFIXES = frozenset(
    """jpg jpeg jpe jfif png webp tif tiff bmp dib gif avif avifs
    heic heif jp2 j2k jpx ppm pgm pbm pnm ico""".split()  # noqa: SIM905 - a list of strings would fill the page
)
"""Suffixes by which the picture of a sample is found."""


class Place(NamedTuple):
    """Where a file lies in a tar, in bytes."""

    offset: int
    size: int


class Input(NamedTuple):
    """An input: a file by itself, or the picture of a sample in a tar."""

    path: str
    """Relative to the source's root; of a file in a tar the tar's path, then the member's."""
    tar: str | None = None
    """Path of the tar it lies in."""
    picture: Place | None = None
    """Where it lies there."""
    label: Place | None = None
    """Where its label map lies there; None where the tar has none."""
    problem: str | None = None
    """Why it cannot be read, where that is known already (of a tar that breaks off)."""

    @property
    def name(self) -> str:
        """Its path as the dataset's spec sees it: in a tar, the member's."""
        return self.path if self.tar is None else self.path[len(self.tar) + 1 :]


def tar_inputs(storage: Storage, tar: str, selection: Selection) -> list[Input]:
    """The inputs of a tar, sorted by the bytes of their paths.

    Of a sample, the input is its first member with a picture's suffix that is a picture of the spec; where it has none,
    its first file, to be rejected later. What else lies in the sample is left out.

    Args:
        storage: the source's root.
        tar: path of the tar.
        selection: which files are inputs.

    Raises:
        OSError: the source's disk or store failed.
    """
    members: dict[str, Place] = {}
    problem = None
    try:
        for name, place in _members(storage, tar):
            members[name] = place
        if not members:
            problem = "the tar holds no files"
    except (tarfile.TarError, ValueError) as error:
        problem = f"the tar cannot be read beyond its first {len(members)} files ({error})"
    except (FileNotFoundError, PermissionError) as error:
        problem = "the tar is missing" if isinstance(error, FileNotFoundError) else f"the tar cannot be read ({error})"
    inputs = [
        Input(f"{tar}/{name}", tar, members[name], _label(name, members, selection.spec))
        for name in _pictures(members, selection)
    ]
    if problem is not None:
        inputs.append(Input(tar, problem=problem))
    return sorted(inputs, key=lambda found: found.path.encode("utf-8", "surrogateescape"))


def _members(storage: Storage, tar: str) -> Iterator[tuple[str, Place]]:
    """Name and place of every regular file of a tar, hidden ones left out.

    Raises:
        tarfile.TarError: it is damaged, or ends without the mark of its end.
    """
    with storage.open(tar) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for entry in archive:
            name = entry.name.removeprefix("./")
            if entry.isreg() and not entry.issparse() and not name.startswith(".") and "/." not in name:
                yield name, Place(entry.offset_data, entry.size)
            archive.members = []  # tarfile keeps them all otherwise
        # at a damaged header tarfile stops as if that were the end
        file.seek(archive.offset)
        end = bytes(file.read(tarfile.BLOCKSIZE))
        if end != bytes(tarfile.BLOCKSIZE):
            what = "damaged header" if end else "no mark of its end"
            raise tarfile.ReadError(f"{what} at byte {archive.offset}")


def _pictures(members: Iterable[str], selection: Selection) -> Iterator[str]:
    """The name of the file that stands for each sample."""
    samples: dict[str, list[str]] = {}
    for path in members:
        if selection.is_input(path):
            folder, _, name = path.rpartition("/")
            samples.setdefault(f"{folder}/{name.split('.')[0]}", []).append(path)
    for paths in samples.values():
        pictures = (path for path in paths if _has_picture_suffix(path) and selection.spec.picture(path))
        yield next(pictures, paths[0])


def _has_picture_suffix(path: str) -> bool:
    return path.rpartition(".")[2].lower() in PICTURE_SUFFIXES


def _label(path: str, members: dict[str, Place], spec: DatasetSpec) -> Place | None:
    name = spec.picture(path)
    return None if name is None or name.label is None else members.get(name.label)

"""The index next to a tar, `x.idx` of `x.tar`, as DALI's `wds2idx` and `vice-prep` write it: members without headers.

An index may be old, or of another tar. It counts only if members lie side by side from the first byte to the mark of
the end, with a header of the same size before each (one block, or three as webdataset writes them): then nothing else
is in the tar. Every member is checked against its header when it is read.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import INDEX_VERSION
from vice.pipeline.prep.tar_headers import Header, Place, header_of
from vice.pipeline.storage.base import Source, Storage

_BLOCK = tarfile.BLOCKSIZE
_FIELDS = 4
"""Of a member: suffix, offset, size, name."""


class Index(NamedTuple):
    """The members of a tar."""

    headers: list[Header]
    header_size: int
    """Bytes of the header before each, with its extensions."""


def index_path(tar: str) -> str:
    """Path of a tar's index."""
    return f"{tar[: -len('.tar')]}.idx"


def read_index(storage: Storage, tar: str) -> Index | None:
    """The members of a tar by its index; None where there is none, or it does not account for the whole tar.

    Tars with folders, links or some long names have further headers, which their index does not list.

    Args:
        storage: where the tar is.
        tar: its path there.
    """
    try:
        text = storage.read(index_path(tar)).decode("utf-8", "surrogateescape")
        headers = sorted(_members(text), key=lambda header: header.place.offset)
        return _complete(storage, tar, headers)
    except (OSError, ValueError):
        return None


def _members(text: str) -> Iterator[Header]:
    """The members that an index lists.

    Raises:
        ValueError: it is no index, or one without names.
    """
    first, *lines = text.removesuffix("\n").split("\n")
    if first.split() != [INDEX_VERSION, str(len(lines))]:
        raise ValueError("no index of the version that has names")
    for line in lines:
        words = line.split(" ")
        for start in range(0, len(words), _FIELDS):
            _, offset, size, name = words[start : start + _FIELDS]
            yield Header(name, "file", "", Place(int(offset), int(size)))


def _complete(storage: Storage, tar: str, headers: Sequence[Header]) -> Index:
    """Members with headers of equal size that follow each other up to the mark of the end.

    Raises:
        ValueError: they do not.
    """
    header_size = headers[0].place.offset if headers else 0
    end = 0
    for header in headers:
        if header.place.offset != end + header_size or header.place.size < 0:
            raise ValueError("members that the index does not list")
        end = header.place.offset + -(-header.place.size // _BLOCK) * _BLOCK
    if header_size < _BLOCK:
        raise ValueError("no member")
    last = headers[-1]
    ranges = [(last.place.offset - header_size, header_size), (end, _BLOCK)]
    header, mark = storage.read_ranges(tar, ranges)
    if mark != bytes(_BLOCK) or not _is_header_of(header, last.name, last.place):
        raise ValueError("the tar ends otherwise")
    return Index(list(headers), header_size)


def with_header(place: Place, header_size: int) -> Place:
    """A member with the header before it."""
    return Place(place.offset - header_size, place.size + header_size)


def read_indexed(storage: Source, tar: str, place: Place, name: str, header_size: int) -> bytes:
    """The bytes of a member of which only the index says where it lies.

    Raises:
        WorkError: its header is that of something else.
        OSError: the disk or store failed.
    """
    data = storage.read_ranges(tar, [with_header(place, header_size)])[0]
    if not _is_header_of(data[:header_size], name, place):
        what = f"the index next to the tar is wrong: it says that {name} begins at byte {place.offset}"
        hint = f"remove {index_path(tar)} or make it again, then shard into a new folder"
        raise WorkError(what, where=storage.where(tar), hint=hint)
    return data[header_size:]


def _is_header_of(header: bytes, name: str, place: Place) -> bool:
    """Whether these bytes are the header of a plain file of this name and size, and nothing else."""
    try:
        with tarfile.open(fileobj=io.BytesIO(header), mode="r:") as archive:
            entry = archive.next()
    except tarfile.TarError:
        return False
    if entry is None:
        return False
    found = header_of(entry)
    is_same = found.name.removeprefix("./") == name.removeprefix("./")
    return is_same and found.kind == "file" and found.place == (len(header), place.size)

"""The index next to a tar, `x.idx` of `x.tar`, as DALI's `wds2idx` and `vice-prep` write it: members without headers.

An index may be old, or of another tar. It counts only if its members lie side by side from the first byte to the mark
of the end: then nothing else can be in the tar. Every member is checked against its header when it is read.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import INDEX_VERSION
from vice.pipeline.prep.tar_headers import Header, Place, header_of
from vice.pipeline.storage.base import Source, Storage

_BLOCK = tarfile.BLOCKSIZE
_FIELDS = 4
"""Of a member: suffix, offset, size, name."""


def index_path(tar: str) -> str:
    """Path of a tar's index."""
    return f"{tar[: -len('.tar')]}.idx"


def indexed_headers(storage: Storage, tar: str) -> list[Header] | None:
    """The members of a tar by its index; None where there is none, or it does not account for the whole tar.

    Tars with folders, links or long names have further headers, which their index does not list.

    Args:
        storage: where the tar is.
        tar: its path there.
    """
    try:
        text = storage.read(index_path(tar)).decode("utf-8", "surrogateescape")
        headers = sorted(_members(text), key=lambda header: header.place.offset)
        return headers if headers and _is_complete(storage, tar, headers) else None
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


def _is_complete(storage: Storage, tar: str, headers: list[Header]) -> bool:
    """Whether headers and members follow each other without a gap, up to the mark of the end."""
    end = 0
    for header in headers:
        if header.place.offset != end + _BLOCK or header.place.size < 0:
            return False
        end = header.place.offset + -(-header.place.size // _BLOCK) * _BLOCK
    last = headers[-1]
    block, mark = storage.read_ranges(tar, [(last.place.offset - _BLOCK, _BLOCK), (end, _BLOCK)])
    return mark == bytes(_BLOCK) and _is_header_of(block, last.name, last.place)


def with_header(place: Place) -> Place:
    """A member with the header before it."""
    return Place(place.offset - _BLOCK, place.size + _BLOCK)


def read_indexed(storage: Source, tar: str, place: Place, name: str) -> bytes:
    """The bytes of a member of which only the index says where it lies.

    Raises:
        WorkError: its header is that of something else.
        OSError: the disk or store failed.
    """
    data = storage.read_ranges(tar, [with_header(place)])[0]
    if not _is_header_of(data[:_BLOCK], name, place):
        what = f"the index next to the tar is wrong: it says that {name} begins at byte {place.offset}"
        hint = f"remove {index_path(tar)} or make it again, then shard into a new folder"
        raise WorkError(what, where=storage.where(tar), hint=hint)
    return data[_BLOCK:]


def _is_header_of(block: bytes, name: str, place: Place) -> bool:
    """Whether a block is the header of a plain file of this name and size."""
    try:
        header = header_of(tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape"))
    except tarfile.HeaderError:
        return False
    names = (header.name.removeprefix("./"), name.removeprefix("./"))
    return header.kind == "file" and names[0] == names[1] and header.place.size == place.size

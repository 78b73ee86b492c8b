"""The headers of a tar, one after the other; of a tar on a store in few requests, whatever the size of its members."""

from __future__ import annotations

import tarfile
from contextlib import AbstractContextManager, nullcontext
from typing import IO, NamedTuple

from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.local import LocalStorage

_FIRST = 1 << 18
_MANY_HEADERS, _ONE_HEADER = 4 << 20, 1 << 16
"""Bytes that a request reads: where members are small, and where the next header lies far away."""
_FAR = 1 << 20
"""Bytes that take as long as a request of their own."""


class Place(NamedTuple):
    """Where a file lies in a tar, in bytes."""

    offset: int
    size: int


class Header(NamedTuple):
    """What the header of a member says."""

    name: str
    kind: str
    """`file`, `sparse`, `hard link`, `symbolic link`, `folder` or `other`."""
    target: str
    """What a link leads to."""
    place: Place


def read_headers(storage: Storage, tar: str, size: int, headers: list[Header]) -> None:
    """Append the header of every member that is not a folder.

    Args:
        storage: where the tar is.
        tar: its path there.
        size: of the tar in bytes.
        headers: what could be read, also where an error ends it.

    Raises:
        tarfile.TarError: the tar is damaged, or ends without the mark of its end.
        OSError: the disk or store failed.
    """
    with _opened(storage, tar, size) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for entry in archive:
            header = header_of(entry)
            if header.kind != "folder":
                headers.append(header)
            archive.members = []  # tarfile keeps them all otherwise
        # at a damaged header tarfile stops as if that were the end
        file.seek(archive.offset)
        end = bytes(file.read(tarfile.BLOCKSIZE))
        if end != bytes(tarfile.BLOCKSIZE):
            what = "damaged header" if end else "no mark of its end"
            raise tarfile.ReadError(f"{what} at byte {archive.offset}")


def header_of(entry: tarfile.TarInfo) -> Header:
    """The facts of a member that count here."""
    kinds = (
        (entry.isdir(), "folder"),
        (entry.islnk(), "hard link"),
        (entry.issym(), "symbolic link"),
        (not entry.isreg(), "other"),
        (entry.issparse(), "sparse"),
    )
    kind = next((kind for is_kind, kind in kinds if is_kind), "file")
    return Header(entry.name, kind, entry.linkname, Place(entry.offset_data, entry.size))


def _opened(storage: Storage, tar: str, size: int) -> AbstractContextManager[IO[bytes]]:
    if isinstance(storage, LocalStorage):
        return storage.open(tar)
    return nullcontext(_HeaderFile(storage, tar, size))


class _HeaderFile:
    """A tar on a store as a file of which only headers are read.

    What lies between headers is read along where that is quicker than another request, and left out where it is not.

    Args:
        storage: where the tar is.
        tar: its path there.
        size: in bytes.
    """

    def __init__(self, storage: Storage, tar: str, size: int):
        self._storage, self._tar, self._size = storage, tar, size
        self._at = self._start = 0
        self._buffer = b""

    def seek(self, offset: int) -> int:
        """Continue at an offset from the beginning."""
        self._at = offset
        return offset

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._at

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, fewer at the end."""
        end = min(self._at + count, self._size)
        if end <= self._at:
            return b""
        if self._at < self._start or end > self._start + len(self._buffer):
            self._fetch(end - self._at)
        data = self._buffer[self._at - self._start : end - self._start]
        self._at = end
        return data

    def _fetch(self, count: int) -> None:
        """Read at least `count` bytes from where the file stands."""
        skipped = self._at - (self._start + len(self._buffer))
        ahead = _FIRST if not self._buffer else _MANY_HEADERS if skipped <= _FAR else _ONE_HEADER
        size = min(max(count, ahead), self._size - self._at)
        self._start, self._buffer = self._at, self._storage.read_ranges(self._tar, [(self._at, size)])[0]

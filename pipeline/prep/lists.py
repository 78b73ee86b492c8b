"""Lists of paths as sources, read in pieces: a list of any length takes little more than the bytes of its paths."""

from __future__ import annotations

import csv
import io
import os
import posixpath
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vice.data_specs.errors import InputError
from vice.pipeline.storage.base import CHUNK, Storage
from vice.pipeline.storage.opening import open_storage, scheme_of, split_address

LIST_SUFFIXES = {".txt", ".csv", ".parquet"}
LIST_COLUMN = "path"

_PIECE = 1 << 14
"""Paths that are Python objects at once."""


class PathList(NamedTuple):
    """The paths of a list."""

    root: str
    """Address of the list's folder, or of what all have in common."""
    paths: pa.LargeBinaryArray
    """Whole paths without `s3://`, sorted by their bytes, each once."""
    start: int
    """Bytes of each before the path relative to the root."""

    def relative(self) -> Iterator[list[str]]:
        """The paths relative to the root, some at a time."""
        for first in range(0, len(self.paths), _PIECE):
            yield [os.fsdecode(path[self.start :]) for path in self.paths[first : first + _PIECE].to_pylist()]


def read_list(source: str) -> PathList:
    """Read a list.

    Args:
        source: address of a `.txt` with a path per line, or a `.csv` or `.parquet` with a column `path`; paths are
            relative to the list's folder, or absolute.

    Raises:
        InputError: it cannot be read, is empty, or its files have no root in common.
    """
    folder, name = split_address(source)
    own = folder if scheme_of(folder) else str(Path(folder).absolute())
    listed = (path for path in _listed(open_storage(folder), name, source) if path)
    schemes: set[str | None] = set()
    chunks = []
    while piece := list(islice(listed, _PIECE)):
        if any("\0" in path for path in piece):
            raise InputError("the list has a path with a NUL character, which no file can have", where=source)
        whole = [path if scheme_of(path) or path.startswith("/") else f"{own}/{path}" for path in piece]
        schemes |= {scheme_of(path) for path in whole}
        if len(schemes) > 1:
            raise InputError("the list names files on disks and on stores", where=source, hint="give one list for each")
        chunks.append(pa.array([os.fsencode(_plain(path)) for path in whole], pa.large_binary()))
    if not chunks:
        raise InputError("the list is empty", where=source, hint="put a path on each line, or in the column 'path'")
    return _rooted(_sorted_once(chunks), own, schemes.pop(), source)


def _plain(path: str) -> str:
    """An address without scheme, and without what `.`, `..` and `//` mean."""
    scheme = scheme_of(path)
    return posixpath.normpath(path[len(f"{scheme}://") :] if scheme else path).replace("//", "/")


def _sorted_once(chunks: list[pa.Array]) -> pa.LargeBinaryArray:
    """The paths of all chunks, which are emptied: at most two copies are in memory."""
    paths = pa.concat_arrays(chunks)
    chunks.clear()
    if not _increase(paths):
        paths = paths.take(pc.sort_indices(paths))
        if not _increase(paths):
            is_new = pa.concat_arrays([pa.array([True]), pc.not_equal(paths[1:], paths[:-1])])
            paths = paths.filter(is_new)
    return paths


def _increase(paths: pa.LargeBinaryArray) -> bool:
    return len(paths) < 2 or pc.all(pc.less(paths[:-1], paths[1:])).as_py()


def _rooted(paths: pa.LargeBinaryArray, own: str, scheme: str | None, source: str) -> PathList:
    """With the list's folder as root, or what all have in common: the first and the last tell, as they are sorted."""
    first, last = paths[0].as_py(), paths[-1].as_py()
    base = os.fsencode(_plain(own))
    if not all(path.startswith(base + b"/") for path in (first, last)):
        base = posixpath.commonpath([posixpath.dirname(first), posixpath.dirname(last)])
        if scheme and not base:
            raise InputError("the list names files in several buckets", where=source, hint="give one list for each")
    start = f"{scheme}://" if scheme else ""
    return PathList(start + os.fsdecode(base), paths, len(base.rstrip(b"/")) + 1)


def _listed(storage: Storage, name: str, source: str) -> Iterator[str | None]:
    """The paths of a list as they stand in it."""
    kinds = {".parquet": _parquet_paths, ".csv": _csv_paths}
    read = kinds.get(Path(name).suffix.lower(), _lines)
    try:
        yield from read(storage, name, source)
    except OSError as error:
        raise InputError(f"the list cannot be read ({error})", where=source) from None


def _parquet_paths(storage: Storage, name: str, source: str) -> Iterator[str | None]:
    try:
        with storage.open(name) as file:
            for batch in pq.ParquetFile(file).iter_batches(_PIECE, columns=[LIST_COLUMN]):
                yield from batch[LIST_COLUMN].cast(pa.string()).to_pylist()
    except (pa.ArrowException, KeyError) as error:
        what = f"no list with a column '{LIST_COLUMN}' ({str(error).splitlines()[0]})"
        raise InputError(what, where=source) from None


def _csv_paths(storage: Storage, name: str, source: str) -> Iterator[str | None]:
    rows = csv.DictReader(_text(storage, name, newline=""))
    try:
        if LIST_COLUMN not in (rows.fieldnames or []):
            columns = ", ".join(rows.fieldnames or []) or "none"
            raise InputError(f"the list has no column '{LIST_COLUMN}' (columns: {columns})", where=source)
        for row in rows:
            yield row[LIST_COLUMN]
    except csv.Error as error:
        raise InputError(f"the list is no CSV ({error})", where=source) from None


def _lines(storage: Storage, name: str, _: str) -> Iterator[str]:
    # names may hold other characters that end lines
    for line in _text(storage, name, newline="\n"):
        if not line.startswith("#"):
            yield line.strip()


def _text(storage: Storage, name: str, *, newline: str) -> io.TextIOWrapper:
    stream = io.BufferedReader(_Stream(storage.chunks(name)), CHUNK)
    return io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline=newline)


class _Stream(io.RawIOBase):
    """Pieces of a file as a file to be read once, from beginning to end."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks, self._rest = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

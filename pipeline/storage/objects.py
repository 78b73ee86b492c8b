"""A folder on an object store: S3, what speaks like it, and Google Cloud Storage."""

from __future__ import annotations

import io
import mmap
import os
import re
import tempfile
from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import GCSStore, S3Store

from vice.data_specs.errors import InputError
from vice.pipeline.storage.base import CHUNK, EnterFolder, Entry, Hold, Storage, Version, enter_all, is_hidden, whole
from vice.pipeline.storage.lease import Lease

_CLIENT = {
    # an endpoint of plain http is used only where the user names one
    "allow_http": True,
    "connect_timeout": timedelta(seconds=5),
    # of one request, which may carry a whole shard
    "timeout": timedelta(minutes=15),
}
_STORES = {"s3": S3Store, "gs": GCSStore}
_ADDRESS = re.compile(r"(s3|gs)://([^/]+)(.*)", re.IGNORECASE | re.DOTALL)
_GAP = 1 << 20
"""Bytes that are read in vain rather than asking twice."""
_RETRY = {"max_retries": 6, "retry_timeout": timedelta(minutes=2)}


class ObjectStorage(Storage):
    """A prefix in a bucket. Credentials, region and endpoint come from the environment (AWS_…, GOOGLE_…).

    Args:
        address: `s3://bucket/prefix` or `gs://bucket/prefix`.

    Raises:
        InputError: the address or what the environment says is not usable.
    """

    def __init__(self, address: str):
        super().__init__(address.rstrip("/"))
        scheme, bucket, prefix = _parts(address)
        try:
            # not by the client's own parser, for which `#`, `?` and `%` are a URL's
            self.store = _STORES[scheme](bucket, prefix=prefix or None, client_options=_CLIENT, retry_config=_RETRY)
        except (BaseError, ValueError, OSError) as error:
            raise InputError(f"not an address of an object store ({_short(error)})", where=address) from None

    def __reduce__(self):
        return type(self), (self.address,)

    def walk(self, *, hidden: bool = False, enter: EnterFolder = enter_all) -> Iterator[Entry]:
        """Every object below the prefix, as the store lists them: in the order of their keys' bytes."""
        with _as_os_error():
            for entry in _without_markers(self._list()):
                if hidden or not is_hidden(entry.path):
                    yield entry

    def _list(self) -> Iterator[Entry]:
        for batch in obstore.list(self.store, chunk_size=1000):
            for meta in batch:
                yield Entry(meta["path"], meta["size"])

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        try:
            with _as_os_error():
                obstore.head(self.store, name)
        except FileNotFoundError:
            return False
        return True

    def version(self, name: str) -> Version:
        """Size and entity tag."""
        with _as_os_error():
            meta = obstore.head(self.store, name)
        return Version(meta["size"], meta["e_tag"] or meta["last_modified"].isoformat())

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of an object; neighbouring ones come with one request."""
        read = {start: self._span(name, start, end) for start, end in _spans(ranges)}
        starts = sorted(read)
        parts = []
        for offset, size in ranges:
            start = starts[bisect(starts, offset) - 1] if size else 0
            parts.append(read[start][offset - start :][:size] if size else b"")
        return whole(parts, ranges)

    def _span(self, name: str, start: int, end: int) -> bytes:
        """Bytes of an object from start to end, fewer where it ends before."""
        try:
            with _as_os_error():
                # not the client's `get_ranges`, which panics where the object ends between two of them
                return bytes(obstore.get_range(self.store, name, start=start, end=end))
        except FileNotFoundError:
            raise
        except OSError:
            # a range that begins behind the end is an error of the request, not a short answer
            with _as_os_error():
                if start < obstore.head(self.store, name)["size"]:
                    raise
            return b""

    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole object, in pieces."""
        with _as_os_error():
            for chunk in obstore.get(self.store, name).stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """An object to be read in any order, a request per buffer."""
        with _as_os_error():
            size = obstore.head(self.store, name)["size"]
        yield io.BufferedReader(_ObjectFile(self, name, size), 1 << 16)

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Written to a nameless file on the disk, then put with one request."""
        with tempfile.TemporaryFile() as file:
            yield file
            file.flush()
            size = file.tell()
            with _as_os_error():
                if size == 0:
                    obstore.put(self.store, name, b"", use_multipart=False)
                    return
                # mapped, so that a shard of any size is sent without being in memory
                with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
                    obstore.put(self.store, name, data, use_multipart=False)

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        try:
            with _as_os_error():
                obstore.delete(self.store, name)
        except FileNotFoundError:
            pass

    def delete_folder(self, name: str) -> None:
        """Remove all objects below `name`."""
        with _as_os_error():
            for batch in obstore.list(self.store, prefix=name, chunk_size=1000):
                obstore.delete(self.store, [meta["path"] for meta in batch])

    def hold(self, name: str) -> Hold:
        """A lease by conditional puts, which expires unless it is renewed."""
        return Lease(self.store, name, self.address)


class _ObjectFile(io.RawIOBase):
    """An object as a file, for what wants one; each read is a request."""

    def __init__(self, storage: ObjectStorage, name: str, size: int):
        self._storage, self._name, self._size, self._at = storage, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        count = max(0, min(len(buffer), self._size - self._at))
        if count:
            buffer[:count] = self._storage.read_ranges(self._name, [(self._at, count)])[0]
        self._at += count
        return count


def _spans(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Start and end of what is to be read at once: ranges (offset and size) with little between them."""
    spans: list[tuple[int, int]] = []
    for offset, size in sorted(ranges):
        # a store answers a range of no bytes with an error
        if size and spans and offset <= spans[-1][1] + _GAP:
            spans[-1] = (spans[-1][0], max(spans[-1][1], offset + size))
        elif size:
            spans.append((offset, offset + size))
    return spans


def _parts(address: str) -> tuple[str, str, str]:
    """Scheme, bucket and prefix of an address.

    Raises:
        InputError: it has no bucket.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        hint = "give s3://bucket/prefix or gs://bucket/prefix"
        raise InputError("not an address of an object store", where=address, hint=hint)
    return match[1].lower(), match[2], match[3].strip("/")


def _without_markers(entries: Iterator[Entry]) -> Iterator[Entry]:
    """The entries without the empty objects by which consoles show folders: `photos/` before `photos/a.jpg`."""
    before = None
    for entry in entries:
        if before is not None and (before.size or not entry.path.startswith(f"{before.path}/")):
            yield before
        before = entry if entry.path else None
    if before is not None:
        yield before


@contextmanager
def _as_os_error() -> Iterator[None]:
    """What the store's client raises, as an OSError of one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(_short(error)) from None
    except BaseError as error:
        raise OSError(_short(error)) from None


def _short(error: Any) -> str:
    """The first line of a message that may hold a debug print of everything."""
    return str(error).split("\n")[0][:300]

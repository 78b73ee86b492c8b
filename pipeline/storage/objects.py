"""A folder on an object store: S3, what speaks like it, and Google Cloud Storage."""

from __future__ import annotations

import errno
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
from obstore.exceptions import BaseError, PermissionDeniedError
from obstore.store import GCSStore, S3Store

from vice.data_specs.errors import InputError
from vice.pipeline.storage.base import (
    CHUNK,
    EnterFolder,
    Entry,
    Hold,
    Refused,
    Storage,
    Version,
    enter_all,
    is_hidden,
    whole,
)
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
PATIENCE, FIRST_PATIENCE = 240.0, 5.0
"""Seconds in which a request is tried again after throttling, a server's error or a lost connection, with growing
pauses; the second until the store has answered once, so that a wrong address is known soon."""


class ObjectStorage(Storage):
    """A prefix in a bucket. Credentials, region and endpoint come from the environment (AWS_…, GOOGLE_…).

    Args:
        address: `s3://bucket/prefix` or `gs://bucket/prefix`.
        patience: seconds in which a request is tried again.
        answered: whether the store is known to answer.

    Raises:
        InputError: the address or what the environment says is not usable.
    """

    def __init__(self, address: str, patience: float = PATIENCE, answered: bool = False):
        super().__init__(address.rstrip("/"))
        self._patience, self._answered = patience, answered
        self._patient, self._quick = _store(address, patience), _store(address, min(patience, FIRST_PATIENCE))

    def __reduce__(self):
        return type(self), (self.address, self._patience, self._answered)

    @property
    def store(self) -> S3Store | GCSStore:
        """The client, patient once the store has answered."""
        return self._patient if self._answered else self._quick

    @contextmanager
    def _request(self) -> Iterator[None]:
        """What the store's client raises, as an OSError of one line; whether the store answers is noted."""
        try:
            yield
        except FileNotFoundError as error:
            self._answered = True
            raise FileNotFoundError(_short(error)) from None
        except PermissionDeniedError as error:
            self._answered = True
            raise _Denied(_short(error)) from None
        except BaseError as error:
            raise OSError(_short(error)) from None
        self._answered = True

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """The same, where a file is read: tells whether the store denies this file or everything.

        Raises:
            Refused: the store lists its files, but denies this one.
            OSError: the store denies access.
        """
        try:
            with self._request():
                yield
        except _Denied as denied:
            with self._request():
                next(iter(obstore.list(self.store, chunk_size=1)), None)
            raise Refused(errno.EACCES, str(denied)) from None

    def walk(self, *, hidden: bool = False, enter: EnterFolder = enter_all) -> Iterator[Entry]:
        """Every object below the prefix, as the store lists them: in the order of their keys' bytes."""
        with self._request():
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
            with self._request():
                obstore.head(self.store, name)
        except FileNotFoundError:
            return False
        return True

    def version(self, name: str) -> Version:
        """Size and entity tag."""
        with self._request():
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
            with self._reading():
                # not the client's `get_ranges`, which panics where the object ends between two of them
                return bytes(obstore.get_range(self.store, name, start=start, end=end))
        except (FileNotFoundError, Refused):
            raise
        except OSError:
            # a range that begins behind the end is an error of the request, not a short answer
            with self._request():
                if start < obstore.head(self._quick, name)["size"]:
                    raise
            return b""

    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole object, in pieces."""
        with self._reading():
            for chunk in obstore.get(self.store, name).stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """An object to be read in any order, a request per buffer."""
        with self._request():
            size = obstore.head(self.store, name)["size"]
        yield io.BufferedReader(_ObjectFile(self, name, size), 1 << 16)

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Written to a nameless file on the disk, then put with one request."""
        with tempfile.TemporaryFile() as file:
            yield file
            file.flush()
            size = file.tell()
            with self._request():
                if size == 0:
                    obstore.put(self.store, name, b"", use_multipart=False)
                    return
                # mapped, so that a shard of any size is sent without being in memory
                with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
                    obstore.put(self.store, name, data, use_multipart=False)

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        try:
            with self._request():
                obstore.delete(self.store, name)
        except FileNotFoundError:
            pass

    def delete_folder(self, name: str) -> None:
        """Remove all objects below `name`."""
        with self._request():
            for batch in obstore.list(self.store, prefix=name, chunk_size=1000):
                obstore.delete(self.store, [meta["path"] for meta in batch])

    def hold(self, name: str) -> Hold:
        """A lease by conditional puts, which expires unless it is renewed."""
        return Lease(self._quick, name, self.address, patient=self._patient)


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


class _Denied(OSError):
    """The store denied a request."""


def _store(address: str, patience: float) -> S3Store | GCSStore:
    """The client of a bucket and prefix, whose requests are tried again for so many seconds."""
    scheme, bucket, prefix = _parts(address)
    pauses = {
        "init_backoff": timedelta(seconds=min(0.2, patience / 50)),
        "max_backoff": timedelta(seconds=min(20, patience / 6)),
        # drawn between the first pause and this multiple of the last one
        "base": 3,
    }
    retries = {"backoff": pauses, "max_retries": 10_000, "retry_timeout": timedelta(seconds=patience)}
    try:
        # not by the client's own parser, for which `#`, `?` and `%` are a URL's
        return _STORES[scheme](bucket, prefix=prefix or None, client_options=_CLIENT, retry_config=retries)
    except (BaseError, ValueError, OSError) as error:
        raise InputError(f"not an address of an object store ({_short(error)})", where=address) from None


def _short(error: Any) -> str:
    """The first line of a message that may hold a debug print of everything."""
    return str(error).split("\n")[0][:300]

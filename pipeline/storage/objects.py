"""A folder on an object store: S3, what speaks like it, and Google Cloud Storage."""

from __future__ import annotations

import io
import mmap
import os
import re
import tempfile
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import GCSStore, S3Store

from vice.data_specs.errors import InputError
from vice.pipeline.storage.base import (
    CHUNK,
    EnterFolder,
    Entry,
    Hold,
    Storage,
    StoreFailure,
    Version,
    enter_all,
    is_hidden,
    whole,
)
from vice.pipeline.storage.lease import Lease
from vice.pipeline.storage.retries import OF_THIS_PROCESS, Retries
from vice.pipeline.storage.store_errors import first_line, is_of_proxy, store_failure

if TYPE_CHECKING:
    from obstore.store import RetryConfig

_Answer = TypeVar("_Answer")

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
_FIRST_CONTACT: RetryConfig = {"max_retries": 6, "retry_timeout": timedelta(minutes=2)}
"""Some ten seconds: a store that never answered may have a wrong address."""
_IN_USE: RetryConfig = {
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15), "base": 2},
    # the time ends the attempts, not their number
    "max_retries": 1000,
    "retry_timeout": timedelta(minutes=4),
}
"""Throttling, errors 5xx and dropped connections of a store that has answered before."""


class ObjectStorage(Storage):
    """A prefix in a bucket. Credentials, region and endpoint come from the environment (AWS_…, GOOGLE_…).

    Args:
        address: `s3://bucket/prefix` or `gs://bucket/prefix`.
        retry: how the client repeats requests of a store that has answered before.
        retries: of what the client does not repeat: a proxy's 403.
        has_answered: whether this store has answered before; one that never did may have a wrong address.

    Raises:
        InputError: the address or what the environment says is not usable.
    """

    def __init__(
        self,
        address: str,
        *,
        retry: RetryConfig = _IN_USE,
        retries: Retries = OF_THIS_PROCESS,
        has_answered: bool = False,
    ):
        super().__init__(address.rstrip("/"))
        self._retry, self._retries, self._has_answered = retry, retries, has_answered
        scheme, bucket, prefix = _parts(address)
        try:
            # not by the client's own parser, for which `#`, `?` and `%` are a URL's
            self._first_contact, self._in_use = (
                _STORES[scheme](bucket, prefix=prefix or None, client_options=_CLIENT, retry_config=config)
                for config in (_FIRST_CONTACT, retry)
            )
        except (BaseError, ValueError, OSError) as error:
            raise InputError(f"not an address of an object store ({first_line(error)})", where=address) from None

    def __reduce__(self):
        # other processes help in a job that has begun: the store has answered
        return partial(type(self), retry=self._retry, has_answered=True), (self.address,)

    @property
    def store(self) -> Any:
        """The client: patient where the store answered the last request, quick to give up otherwise."""
        return self._in_use if self._has_answered else self._first_contact

    def _request(self, name: str, send: Callable[[Any], _Answer]) -> _Answer:
        """What a request gives; one that a proxy refuses is repeated.

        Raises:
            FileNotFoundError: there is no such object.
            StoreFailure: anything else.
        """

        def attempt() -> _Answer:
            with self._watched(name):
                return send(self.store)

        return self._retries(attempt, is_of_proxy) if self._has_answered else attempt()

    @contextmanager
    def _watched(self, name: str) -> Iterator[None]:
        """Note whether the store answers; what its client raises becomes an OSError of one line."""
        try:
            yield
        except FileNotFoundError as error:
            self._has_answered = True
            raise FileNotFoundError(first_line(error)) from None
        except BaseError as error:
            failure = store_failure(error, self.where(name))
            self._has_answered = self._has_answered and is_of_proxy(failure)
            raise failure from None
        self._has_answered = True

    def walk(self, *, hidden: bool = False, enter: EnterFolder = enter_all) -> Iterator[Entry]:
        """Every object below the prefix, as the store lists them: in the order of their keys' bytes."""
        with self._watched(""):
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
            self._request(name, lambda store: obstore.head(store, name))
        except FileNotFoundError:
            return False
        return True

    def version(self, name: str) -> Version:
        """Size and entity tag."""
        meta = self._request(name, lambda store: obstore.head(store, name))
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
            # not the client's `get_ranges`, which panics where the object ends between two of them
            return bytes(self._request(name, lambda store: obstore.get_range(store, name, start=start, end=end)))
        except StoreFailure as failure:
            # a range that begins behind the end is an error of the request, not a short answer
            if not failure.status.startswith("416") or start < self._size(name):
                raise
            return b""

    def _size(self, name: str) -> int:
        return self._request(name, lambda store: obstore.head(store, name))["size"]

    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole object, in pieces."""
        found = self._request(name, lambda store: obstore.get(store, name))
        with self._watched(name):
            for chunk in found.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """An object to be read in any order, a request per buffer."""
        yield io.BufferedReader(_ObjectFile(self, name, self._size(name)), 1 << 16)

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Written to a nameless file on the disk, then put with one request."""
        with tempfile.TemporaryFile() as file:
            yield file
            file.flush()
            size = file.tell()
            if size == 0:
                self._request(name, lambda store: obstore.put(store, name, b"", use_multipart=False))
                return
            # mapped, so that a shard of any size is sent without being in memory
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
                self._request(name, lambda store: obstore.put(store, name, data, use_multipart=False))

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        with suppress(FileNotFoundError):
            self._request(name, lambda store: obstore.delete(store, name))

    def delete_folder(self, name: str) -> None:
        """Remove all objects below `name`."""
        with self._watched(name):
            for batch in obstore.list(self.store, prefix=name, chunk_size=1000):
                obstore.delete(self.store, [meta["path"] for meta in batch])

    def hold(self, name: str) -> Hold:
        """A lease by conditional puts, which expires unless it is renewed."""
        return Lease(self._first_contact, name, self.address)


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

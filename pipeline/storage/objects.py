"""A folder on an object store: S3, what speaks like it, and Google Cloud Storage."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from vice.data_specs.errors import InputError
from vice.pipeline.storage.base import CHUNK, Entry, Hold, Storage, is_hidden, whole
from vice.pipeline.storage.lease import Lease

_CLIENT = {
    # an endpoint of plain http is used only where the user names one
    "allow_http": True,
    "connect_timeout": timedelta(seconds=10),
    # of one request, which may carry a whole shard
    "timeout": timedelta(minutes=15),
}
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
        try:
            self.store = from_url(self.address, client_options=_CLIENT, retry_config=_RETRY)
        except (BaseError, ValueError) as error:
            raise InputError(f"not an address of an object store ({_short(error)})", where=address) from None

    def __reduce__(self):
        return type(self), (self.address,)

    def walk(self, *, hidden: bool = False) -> Iterator[Entry]:
        """Every object below the prefix, as the store lists them: in the order of their keys' bytes."""
        with _as_os_error():
            for batch in obstore.list(self.store, chunk_size=1000):
                for meta in batch:
                    if hidden or not is_hidden(meta["path"]):
                        yield Entry(meta["path"], meta["size"])

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        try:
            with _as_os_error():
                obstore.head(self.store, name)
        except FileNotFoundError:
            return False
        return True

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of an object; neighbouring ones come with one request."""
        # a store answers a range of no bytes with an error
        wanted = [(offset, size) for offset, size in ranges if size]
        starts, lengths = [offset for offset, _ in wanted], [size for _, size in wanted]
        with _as_os_error():
            parts = iter(obstore.get_ranges(self.store, name, starts=starts, lengths=lengths) if wanted else [])
        return whole((bytes(next(parts)) if size else b"" for _, size in ranges), ranges)

    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole object, in pieces."""
        with _as_os_error():
            for chunk in obstore.get(self.store, name).stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """An object to be read in any order, a request per buffer."""
        with _as_os_error():
            yield obstore.open_reader(self.store, name, buffer_size=1 << 16)

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


@contextmanager
def _as_os_error() -> Iterator[None]:
    """What the store's client raises, as an OSError of one line."""
    try:
        yield
    except BaseError as error:
        raise OSError(_short(error)) from None


def _short(error: Any) -> str:
    """The first line of a message that may hold a debug print of everything."""
    return str(error).split("\n")[0][:300]

"""What a folder can do, wherever it lies. Sharding, verifying and reading know nothing else of disks and stores."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import IO, NamedTuple, Protocol, Self

CHUNK = 4 << 20
"""Bytes read at once where a whole file passes by."""


class EndsEarly(OSError):
    """A file ends before a part that was to be read does."""


class StoreFailure(OSError):
    """A store does not answer or refuses, after all attempts.

    Args:
        message: one line with the address.
        status: what it answered, such as `503 Service Unavailable`.
    """

    def __init__(self, message: str, status: str = "no answer"):
        super().__init__(message)
        self.status = status


class Entry(NamedTuple):
    """A file of a folder."""

    path: str
    """Relative to the folder, `/` between parts."""
    size: int
    """In bytes; -1 for a link that leads nowhere, `UNLISTED_FOLDER` for a folder that cannot be listed."""


UNLISTED_FOLDER = -3


class Version(NamedTuple):
    """What changes when a file is written again."""

    size: int
    """In bytes."""
    tag: str
    """A store's entity tag; time of the last change on a disk."""


class Hold(ABC):
    """The right to be the only writer of a folder, as a context manager."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    def check(self) -> None:
        """Make sure that it is still held.

        Raises:
            WorkError: it was lost, and another run may be writing.
        """


EnterFolder = Callable[[str], bool]


def enter_all(_: str) -> bool:
    """Leave no folder out."""
    return True


class Source(Protocol):
    """What is read of a folder of pictures: see `Storage`."""

    def where(self, name: str) -> str:
        """The full address of a file, for messages."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole file, in pieces."""

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of a file, each given as offset and size in bytes."""


class Storage(ABC):
    """A folder of files; every name is relative to it, with `/` between its parts.

    A missing file raises FileNotFoundError, a store that fails a StoreFailure, everything else that fails an OSError.
    Instances can be sent to other processes.

    Args:
        address: the folder, as the user gave it.
    """

    def __init__(self, address: str):
        self.address = address

    def where(self, name: str) -> str:
        """The full address of a file, for messages."""
        return f"{self.address}/{name}"

    @abstractmethod
    def walk(self, *, hidden: bool = False, enter: EnterFolder = enter_all) -> Iterator[Entry]:
        """Every file of the folder and the folders below it, in the order of their paths' bytes.

        Args:
            hidden: also those of which a part of the path begins with a dot.
            enter: which folders may be left out, by their paths; a store, which has none, lists everything.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def version(self, name: str) -> Version:
        """Size and version of a file, without reading it."""

    @abstractmethod
    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of a file, each given as offset and size in bytes.

        Raises:
            EndsEarly: the file ends before a part does.
        """

    @abstractmethod
    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole file, in pieces of about CHUNK bytes."""

    @abstractmethod
    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to be read in any order."""

    @abstractmethod
    def create(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to be written; only once it is left without an error does it stand, whole, under its name."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def delete_folder(self, name: str) -> None:
        """Remove all files below `name`, if there are any."""

    @abstractmethod
    def hold(self, name: str) -> Hold:
        """The right to be the only writer, told to others by a file of this name.

        Raises (when entered):
            WorkError: another run has it.
        """

    def read(self, name: str) -> bytes:
        """A whole file."""
        return b"".join(self.chunks(name))

    def write(self, name: str, data: bytes) -> None:
        """Write a file; under its name it is always whole."""
        with self.create(name) as file:
            file.write(data)

    def sha256(self, name: str) -> str:
        """sha256 (64 hex digits) of a file."""
        digest = hashlib.sha256()
        for chunk in self.chunks(name):
            digest.update(chunk)
        return digest.hexdigest()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"


class HashedFile(io.RawIOBase):
    """A file being written that counts and hashes what passes.

    Args:
        file: where the bytes go.
    """

    def __init__(self, file: IO[bytes]):
        self._file, self._digest, self.size = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size

    def write(self, data) -> int:
        """Write all of `data`."""
        self._file.write(data)
        self._digest.update(data)
        count = memoryview(data).nbytes
        self.size += count
        return count

    @property
    def sha256(self) -> str:
        """sha256 (64 hex digits) of what was written."""
        return self._digest.hexdigest()


@contextmanager
def hashed_file(storage: Storage, name: str) -> Iterator[HashedFile]:
    """`storage.create`, with the hash of what was written at hand."""
    with storage.create(name) as file:
        yield HashedFile(file)


def is_hidden(path: str) -> bool:
    """Whether a part of the path begins with a dot; `.` and `..` are no names of their own."""
    return any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))


def whole(parts: Iterable[bytes], ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The parts that were read, if none is shorter than asked.

    Raises:
        EndsEarly: one is.
    """
    parts = list(parts)
    for part, (_, size) in zip(parts, ranges, strict=True):
        if len(part) != size:
            raise EndsEarly(f"ends {size - len(part)} bytes early")
    return parts

"""A local folder of whole files that the processes of a machine fill and empty together.

A file is written as NAME.part by whoever has an exclusive lock (flock) on NAME.lock, then renamed: whoever finds NAME
finds all of it, and of those who want it at the same time one fetches while the others wait. The lock of a killed
process ends with it. Readers have a shared lock on the file itself, which tells those that make room what is in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vice.data_specs.errors import InputError
from vice.pipeline.storage.base import CHUNK, whole

_PART, _LOCK = ".part", ".lock"
_MAKING_ROOM = ".making-room"


class OpenFile:
    """A file of the cache, open for reading and in use (not removed to make room) until nobody has this object.

    Args:
        descriptor: of the open file, with a lock; owned from now on.
    """

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(descriptor)

    @property
    def size(self) -> int:
        """In bytes."""
        return os.fstat(self.descriptor).st_size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts, each given as offset and size in bytes.

        Raises:
            EndsEarly: the file ends before a part does.
        """
        os.utime(self.descriptor)
        return whole((os.pread(self.descriptor, size, offset) for offset, size in ranges), ranges)

    def chunks(self) -> Iterator[bytes]:
        """All of it, in pieces."""
        offset = 0
        while chunk := os.pread(self.descriptor, CHUNK, offset):
            yield chunk
            offset += len(chunk)

    def duplicate(self) -> int:
        """A descriptor at the file's beginning, with a place that all duplicates share; while open, it is in use."""
        descriptor = os.dup(self.descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def __del__(self) -> None:
        # not closed by hand: another thread may be reading what is no longer kept
        os.close(self.descriptor)


class _Found(NamedTuple):
    used: int
    """Time of the last use, in nanoseconds."""
    path: str
    size: int
    """In bytes."""


class CacheFolder:
    """Files by name; several folders of data may share it.

    Args:
        folder: made where it is not; must support locks, which network file systems may not.
        max_bytes: of all files together; None is no limit. Only files in use are kept beyond it.

    Raises:
        InputError: the folder cannot be made, or cannot be written or locked.
    """

    def __init__(self, folder: str | Path, max_bytes: int | None = None):
        self.folder, self.max_bytes = Path(folder).absolute(), max_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / _MAKING_ROOM):
                self._clear_leftovers()
        except OSError as error:
            hint = "give a folder on a disk of this machine"
            raise InputError(f"no folder for a cache ({error.strerror})", where=folder, hint=hint) from None

    def __contains__(self, name: str) -> bool:
        return (self.folder / name).exists()

    def get(self, name: str, fill: Callable[[int], None]) -> OpenFile:
        """A file, written by `fill` (which gets an empty file's descriptor) where it is not there yet.

        Raises:
            OSError: whatever `fill` raises; then nothing is left behind.
        """
        path = self.folder / name
        while (found := _opened(path)) is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            found = _filled(path, fill)
            if found is not None:
                self.make_room()
                break
        return found

    def make_room(self, num_bytes: int = 0) -> bool:
        """Remove files that are not in use, the longest unused first, until so many bytes fit below the limit.

        Returns:
            Whether they do now.
        """
        if self.max_bytes is None:
            return True
        with _locked(self.folder / _MAKING_ROOM):
            files = sorted(self._files())
            excess = sum(file.size for file in files) + num_bytes - self.max_bytes
            for file in files:
                if excess > 0 and not file.path.endswith((_PART, _LOCK)) and _removed(file.path):
                    excess -= file.size
        return excess <= 0

    def _files(self) -> Iterator[_Found]:
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = f"{folder}/{name}"
                with contextlib.suppress(FileNotFoundError):
                    told = os.stat(path)  # noqa: PTH116 - there may be very many
                    yield _Found(told.st_mtime_ns, path, told.st_size)

    def _clear_leftovers(self) -> None:
        """Remove what killed processes left half written; what living ones write is locked."""
        for file in self._files():
            if file.path.endswith(_LOCK):
                _removed(file.path, file.path.removesuffix(_LOCK) + _PART)


def _opened(path: Path) -> OpenFile | None:
    try:
        return OpenFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        return None


def _filled(path: Path, fill: Callable[[int], None]) -> OpenFile | None:
    """Fill a file, alone; None if another process or thread did, or may have."""
    lock = path.with_name(path.name + _LOCK)
    with _locked(lock) as descriptor:
        if not _is_same(lock, descriptor):
            return None
        try:
            return None if path.exists() else _written(path, fill)
        finally:
            lock.unlink(missing_ok=True)


def _written(path: Path, fill: Callable[[int], None]) -> OpenFile:
    """Written aside, flushed to the disk, renamed; in use from its beginning."""
    part = path.with_name(path.name + _PART)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    file = OpenFile(os.open(part, flags, 0o644))
    try:
        fill(file.descriptor)
        os.fsync(file.descriptor)
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return file


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The descriptor of a file, made where it is not, under an exclusive lock that is waited for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _removed(path: str, *along: str) -> bool:
    """Remove a file, and first those that go along, unless it is in use; returns whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(Path(path), descriptor):
            for name in (*along, path):
                Path(name).unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether an open file still has that name: others may have renamed or removed it while the lock was waited for."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

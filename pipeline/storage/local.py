"""A folder on a disk."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Self

from vice.data_specs.errors import InputError, WorkError
from vice.pipeline.storage.base import (
    CHUNK,
    UNLISTED_FOLDER,
    EnterFolder,
    Entry,
    Hold,
    Storage,
    Version,
    enter_all,
    whole,
)
from vice.pipeline.storage.stats import stat_all

_PIECE = 1 << 12
"""Files whose sizes are looked up together."""

ASIDE_FOLDER = ".vice-prep/aside"
"""Where files lie while they are being written: on the same disk as the folder's own."""


class LocalStorage(Storage):
    """A folder on a disk; links are followed.

    Args:
        folder: the folder, which need not exist yet.
    """

    def __init__(self, folder: str | Path):
        super().__init__(str(folder))
        self.folder = Path(folder).absolute()

    def walk(self, *, hidden: bool = False, enter: EnterFolder = enter_all) -> Iterator[Entry]:
        """Every regular file; a folder reached twice through links is taken once, under its first path.

        A link to nowhere or to itself is an entry of size -1, a folder that cannot be listed one of `UNLISTED_FOLDER`:
        reading it says what is wrong with it, and the rest is listed all the same.

        Raises:
            InputError: the folder itself cannot be listed.
        """
        root = os.fsencode(self.folder)
        found = self._found(root, hidden, enter)
        while piece := list(islice(found, _PIECE)):
            statuses = iter(stat_all([root + b"/" + name for name in piece if isinstance(name, bytes)]))
            for name in piece:
                size = None if isinstance(name, Entry) else _regular_size(next(statuses))
                if isinstance(name, Entry):
                    yield name
                elif size is not None:
                    yield Entry(os.fsdecode(name), size)

    def _found(self, root: bytes, hidden: bool, enter: EnterFolder) -> Iterator[bytes | Entry]:
        """Paths of all that is no folder, and entries of folders that cannot be listed."""
        try:
            folders = [(b"", _names(root, hidden))]
            seen = {_identity(root)}
        except OSError as error:
            raise InputError(f"cannot list a folder ({error.strerror})", where=self.folder) from None
        # not by recursion: folders nest as deep as the system allows
        while folders:
            prefix, names = folders[-1]
            if not names:
                folders.pop()
                continue
            name = prefix + names.pop()
            if not name.endswith(b"/"):
                yield name
            elif enter(os.fsdecode(name[:-1])):
                try:
                    identity = _identity(root + b"/" + name)
                    if identity not in seen:
                        seen.add(identity)
                        folders.append((name, _names(root + b"/" + name, hidden)))
                except OSError:
                    yield Entry(os.fsdecode(name[:-1]), UNLISTED_FOLDER)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / name).is_file()

    def version(self, name: str) -> Version:
        """Size and time of the last change."""
        status = (self.folder / name).stat()
        return Version(status.st_size, str(status.st_mtime_ns))

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of a file, each given as offset and size."""
        file = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return whole((os.pread(file, size, offset) for offset, size in ranges), ranges)
        finally:
            os.close(file)

    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole file, in pieces."""
        with (self.folder / name).open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def open(self, name: str) -> IO[bytes]:
        """A file to be read in any order."""
        return (self.folder / name).open("rb")

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Written aside, flushed to the disk, renamed."""
        path = self.folder / name
        aside = self.folder / ASIDE_FOLDER / f"{path.name}.{secrets.token_hex(8)}.tmp"
        for folder in (aside.parent, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)

    def clear_aside(self) -> None:
        """Remove what killed runs left half written."""
        shutil.rmtree(self.folder / ASIDE_FOLDER, ignore_errors=True)

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        """Remove a folder and all in it, also what a dying process of an earlier run writes just then."""
        for _ in range(3):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            if not (self.folder / name).exists():
                return
        shutil.rmtree(self.folder / name)

    def hold(self, name: str) -> Hold:
        """A lock of the operating system, which ends with the process that has it."""
        return FileLock(self.folder / name, self.address)


class FileLock(Hold):
    """An flock on a file.

    Args:
        path: the file; made where it is not.
        told: what it locks, for the message.
    """

    def __init__(self, path: Path, told: str):
        self._path, self._told = path, told
        self._file: int | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that finished in between has removed the file that we hold.
            if not self._path.exists() or os.fstat(lock).st_ino != self._path.stat().st_ino:
                raise BlockingIOError
        except BlockingIOError:
            os.close(lock)
            raise WorkError("another run is writing there", where=self._told, hint="wait until it ends") from None
        self._file = lock
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def check(self) -> None:
        """A lock of a living process cannot be lost."""


def _names(folder: bytes, hidden: bool) -> list[bytes]:
    """Names in a folder, the last one first; folders have `/` behind them, which makes the order that of whole paths.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        names = [
            entry.name + b"/" if _is_folder(entry) else entry.name
            for entry in entries
            if hidden or not entry.name.startswith(b".")
        ]
    return sorted(names, reverse=True)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: bytes) -> tuple[int, int]:
    """Device and number of a folder, equal for all paths that lead to it."""
    status = os.stat(folder)  # noqa: PTH116 - Path takes no bytes
    return status.st_dev, status.st_ino


def _regular_size(status: os.stat_result | OSError) -> int | None:
    """Size in bytes; -1 for a link that leads nowhere, None for what is no file (opening a pipe would never end)."""
    if isinstance(status, OSError):
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _flush_folder(path: Path) -> None:
    """Bring a rename to the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""A folder on slow or remote storage, read through a local cache of whole files that are checked when they come."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, NoReturn

from vice.pipeline.storage.base import EnterFolder, Entry, Hold, Storage, Version, enter_all
from vice.pipeline.storage.cache_folder import CacheFolder, OpenFile

_MOST_KEPT = 256
"""Files that a process keeps open at once; many systems allow 1,024."""
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class CachedStorage(Storage):
    """Reads a folder whose files never change; each is fetched whole on first use, once by all processes of a machine.

    Args:
        remote: the folder.
        folder: of the cache, on a disk of this machine; several folders of data may share it.
        files: sha256 (64 hex digits) of each file that is cached; others are read where they lie.
        fingerprint: of the data; files of other data are never mistaken for these.
        max_bytes: of the cache; None is no limit. Files in use are kept beyond it.

    Raises:
        InputError: the cache's folder cannot be used.
    """

    def __init__(
        self,
        remote: Storage,
        folder: str | Path,
        *,
        files: Mapping[str, str],
        fingerprint: str,
        max_bytes: int | None = None,
    ):
        super().__init__(remote.address)
        self._remote, self._files, self._fingerprint = remote, files, fingerprint
        self._cache = CacheFolder(folder, max_bytes)
        self._lock = threading.Lock()
        self._to_keep: frozenset[str] = frozenset()
        self._kept: dict[str, OpenFile] = {}
        self._largest = 0

    def __reduce__(self):
        cache = self._cache
        return _rebuild, (self._remote, cache.folder, self._files, self._fingerprint, cache.max_bytes)

    def walk(self, *, hidden: bool = False, enter: EnterFolder = enter_all) -> Iterator[Entry]:
        """Every file of the folder itself."""
        return self._remote.walk(hidden=hidden, enter=enter)

    def exists(self, name: str) -> bool:
        """Whether the folder itself has such a file."""
        return self._remote.exists(name)

    def version(self, name: str) -> Version:
        """Size and version in the folder itself."""
        return self._remote.version(name)

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of a file, which is fetched whole.

        Raises:
            OSError: it cannot be fetched, or its bytes are not those that were told.
        """
        return self._file(name).read_ranges(ranges) if name in self._files else self._remote.read_ranges(name, ranges)

    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole file, in pieces."""
        return self._file(name).chunks() if name in self._files else self._remote.chunks(name)

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file to be read in any order."""
        if name not in self._files:
            return self._remote.open(name)
        return os.fdopen(self._fetched(name).duplicate(), "rb")

    def keep(self, names: Iterable[str]) -> None:
        """From now on these files, once they are there, are in use: they are not removed to make room."""
        with self._lock:
            self._to_keep = frozenset(list(names)[:_MOST_KEPT])
            self._kept = {name: file for name, file in self._kept.items() if name in self._to_keep}

    def fetch_ahead(self, name: str) -> bool:
        """Fetch a file that will be needed, if there is room for it beside the files in use.

        Returns:
            Whether it is there.

        Raises:
            OSError: it cannot be fetched, or its bytes are not those that were told.
        """
        if self._path(name) not in self._cache and not self._cache.make_room(self._largest):
            return False
        self._file(name)
        return True

    def _file(self, name: str) -> OpenFile:
        with self._lock:
            kept = self._kept.get(name)
        if kept is not None:
            return kept
        file = self._fetched(name)
        with self._lock:
            self._largest = max(self._largest, file.size)
            return self._kept.setdefault(name, file) if name in self._to_keep else file

    def _path(self, name: str) -> str:
        return f"{self._fingerprint}/{name}"

    def _fetched(self, name: str) -> OpenFile:
        return self._cache.get(self._path(name), lambda descriptor: self._fetch(name, descriptor))

    def _fetch(self, name: str, descriptor: int) -> None:
        """Write a file of the folder to a local one; what breaks off or comes damaged is fetched a second time."""
        for last_time in (False, True):
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            digest = hashlib.sha256()
            try:
                for chunk in self._remote.chunks(name):
                    digest.update(chunk)
                    _write(descriptor, chunk)
            except OSError as error:
                if error.errno in _DISK_FULL:
                    raise OSError(f"no room for it in the cache {self._cache.folder}: {error.strerror}") from None
                if last_time or isinstance(error, FileNotFoundError):
                    raise
                continue
            if digest.hexdigest() == self._files[name]:
                return
        raise OSError("damaged: fetched twice, and its sha256 is not the one that was told")

    def create(self, name: str) -> NoReturn:
        """Not possible: what is cached never changes."""
        raise self._only_read(name)

    def delete(self, name: str) -> NoReturn:
        """Not possible: what is cached never changes."""
        raise self._only_read(name)

    def delete_folder(self, name: str) -> NoReturn:
        """Not possible: what is cached never changes."""
        raise self._only_read(name)

    def hold(self, name: str) -> Hold:
        """Not possible: what is cached never changes."""
        raise self._only_read(name)

    def _only_read(self, name: str) -> OSError:
        return OSError(errno.EROFS, "read through a cache, so not written", self.where(name))


def _rebuild(
    remote: Storage, folder: Path, files: Mapping[str, str], fingerprint: str, max_bytes: int | None
) -> CachedStorage:
    return CachedStorage(remote, folder, files=files, fingerprint=fingerprint, max_bytes=max_bytes)


def _write(descriptor: int, data: bytes) -> None:
    """All of `data`: a disk that is nearly full takes a part and then refuses."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]

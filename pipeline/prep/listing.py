"""The entries of a source with the inputs of its tars, which threads list side by side."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint
from vice.data_specs.selection import Selection
from vice.pipeline.prep.kept_tars import KeptTars
from vice.pipeline.prep.sources import Listing
from vice.pipeline.prep.tar_members import TarMembers, read_members
from vice.pipeline.prep.tars import TarListing, list_tar
from vice.pipeline.storage.base import Entry, Storage, Version

TAR_VERSION = "every picture of a tar 1"
"""Which members of a tar are inputs; counts for the fingerprint of sources with tars."""

_THREADS = 16
"""Tars that are listed at once: a store answers each request after tens of milliseconds."""
_AHEAD = 2 * _THREADS
"""Entries that wait for their turn."""

_FAULTS_OF_THE_TAR = {errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EPERM}
"""Any other error of a disk or store stops the work."""

_Listed = tuple[Version | None, TarListing]


def entries_with_tars(
    listing: Listing, selection: Selection, kept: KeptTars | None
) -> Iterator[tuple[Entry, TarListing | None]]:
    """Every entry of a source, in order, a tar with its inputs.

    Args:
        listing: the source.
        selection: which files are inputs.
        kept: listings of an earlier run, and where those of this run go.

    Raises:
        InputError: the source's disk or store failed.
    """
    if kept:
        kept.load(_key(listing.storage, selection))
    list_one = partial(_list, listing.storage, selection, kept)
    pool = ThreadPoolExecutor(_THREADS)
    waiting: deque[tuple[Entry, Future[_Listed] | None]] = deque()

    def next_one() -> tuple[Entry, TarListing | None]:
        entry, future = waiting.popleft()
        return entry, None if future is None else _taken(future, entry.path, listing.storage, kept)

    try:
        for entry in listing.entries:
            waiting.append((entry, pool.submit(list_one, entry.path) if _is_tar(entry.path) else None))
            while waiting and (waiting[0][1] is None or len(waiting) > _AHEAD):
                yield next_one()
        while waiting:
            yield next_one()
    finally:
        pool.shutdown(cancel_futures=True)


def _is_tar(path: str) -> bool:
    return path.lower().endswith(".tar")


def _taken(future: Future[_Listed], tar: str, storage: Storage, kept: KeptTars | None) -> TarListing:
    try:
        version, found = future.result()
    except OSError as error:
        what, hint = f"a disk or store failed ({error})", "run the same command again"
        raise InputError(what, where=storage.where(tar), hint=hint) from None
    if kept and version:
        kept.add(tar, version, found)
    return found


def _list(storage: Storage, selection: Selection, kept: KeptTars | None, tar: str) -> _Listed:
    try:
        version = storage.version(tar)
        found = kept.get(tar, version) if kept else None
        return version, found or list_tar(tar, read_members(storage, tar, version), selection)
    except FileNotFoundError:
        problem = "the tar is missing"
    except OSError as error:
        if not isinstance(error, PermissionError) and error.errno not in _FAULTS_OF_THE_TAR:
            raise
        problem = f"the tar cannot be read ({error.strerror or error})"
    return None, list_tar(tar, TarMembers(problem=problem), selection)


def _key(storage: Storage, selection: Selection) -> str:
    """Of all that decides the inputs of a tar, but the tar."""
    spec, rule = selection.spec.model_dump(mode="json"), selection.rule.model_dump(mode="json")
    split = {"name": selection.split, "rule": rule, "ids": selection.identity()}
    return fingerprint({"source": storage.address, "spec": spec, "split": split, "tars": TAR_VERSION})

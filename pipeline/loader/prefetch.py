"""Fetching ahead: while a window of shards is read, a thread fetches the tars of the next one to the local cache."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Sequence
from typing import Self

from vice.data_specs.shard_format import SHARD_FOLDER
from vice.pipeline.loader.order import SampleOrder
from vice.pipeline.shards import Shards
from vice.pipeline.storage.cached import CachedStorage


class Prefetcher:
    """Fetches the shards that this process reads in the window at hand, then those of the next.

    Its thread starts with the first step and ends with this object.

    Args:
        storage: of the shards.
        order: which shards a window has.
        tars: file names of the shards' tars, by the order's numbers.
    """

    def __init__(self, storage: CachedStorage, order: SampleOrder, tars: Sequence[str]):
        self._storage, self._order, self._tars = storage, order, tars
        self._wanted: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        self._window: int | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, shards: Shards, order: SampleOrder, tars: Sequence[str]) -> Self | None:
        """For these shards, if they have a cache and the order has windows."""
        cached = isinstance(shards.storage, CachedStorage)
        return cls(shards.storage, order, tars) if cached and order.has_windows else None

    def at(self, step: int) -> None:
        """Tell that a step is about to be read; by any thread, where several read steps in turn."""
        window = self._order.window_of(step)
        with self._lock:
            # one thread may still be in a window when another has begun the next
            if self._window is not None and window in (self._window, self._window - 1):
                return
            if self._window is None:
                self._start()
            self._window = window
            self._want(window)

    def _want(self, window: int) -> None:
        shards = dict.fromkeys(self._order.shards_of(window) + self._order.shards_of(window + 1))
        names = [f"{SHARD_FOLDER}/{self._tars[shard]}" for shard in shards]
        self._storage.keep(names)
        self._wanted.put(names)

    def _start(self) -> None:
        # the thread does not know this object, so that it can end with it
        thread = threading.Thread(
            target=_work, args=(self._storage, self._wanted), name="vice-fetch-ahead", daemon=True
        )
        thread.start()
        weakref.finalize(self, self._wanted.put, None)


def _work(storage: CachedStorage, wanted: queue.SimpleQueue[list[str] | None]) -> None:
    """Fetch what is wanted, until something else is."""
    while (names := wanted.get()) is not None:
        for name in names:
            if not wanted.empty() or not _fetch(storage, name):
                break


def _fetch(storage: CachedStorage, tar: str) -> bool:
    """Fetch a tar and its index; returns whether there was room."""
    try:
        return all(storage.fetch_ahead(name) for name in (f"{tar.removesuffix('.tar')}.idx", tar))
    except OSError:
        # whoever needs the file fetches it again, and then knows which sample cannot be read
        return True

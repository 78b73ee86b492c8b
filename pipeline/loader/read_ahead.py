"""An iterator that runs ahead in a thread of its own."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """Takes items from an iterator in a thread, at most `depth` ahead of the user; its error is raised at its place.

    The thread ends with the iterator, with its error, when the object is closed or collected, and at exit.

    Args:
        items: what to take; a generator is closed by the thread.
        depth: items that may wait.
        name: of the thread.
    """

    def __init__(self, items: Iterator[Item], *, depth: int, name: str):
        self._ready: queue.Queue = queue.Queue(maxsize=depth)
        stop = threading.Event()
        # the thread holds no reference to this object, or it could never be collected
        thread = threading.Thread(target=_work, args=(items, self._ready, stop), name=name, daemon=True)
        thread.start()
        # run at exit too, before daemon threads are frozen where they stand
        self._close = weakref.finalize(self, _close, thread, self._ready, stop)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        item, error = self._ready.get()
        if error is None:
            return item
        self._ready.put((None, error))  # asked again, it says the same
        raise error

    def close(self) -> None:
        """End the thread; waits for the item it is making."""
        self._close()


def _work(items: Iterator, ready: queue.Queue, stop: threading.Event) -> None:
    error: BaseException = StopIteration()
    try:
        for item in items:
            ready.put((item, None))
            if stop.is_set():
                break
    except BaseException as raised:
        # handed over to the reading side, which raises it
        error = raised
    finally:
        if hasattr(items, "close"):
            items.close()
    ready.put((None, error))


def _close(thread: threading.Thread, ready: queue.Queue, stop: threading.Event) -> None:
    stop.set()
    while thread.is_alive():
        try:
            ready.get(timeout=0.05)
        except queue.Empty:
            thread.join(timeout=0.05)

"""The files of a part's inputs, fetched from a store by a few threads while earlier inputs are worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from vice.pipeline.prep.plan import KeyedInput
from vice.pipeline.prep.sample import Recipe
from vice.pipeline.prep.tar_index import with_header
from vice.pipeline.storage.base import Source
from vice.pipeline.storage.local import LocalStorage

_THREADS = 4
_AHEAD = 8
"""Inputs that are fetched before their turn."""
_LARGEST = 16 << 20
"""Bytes of an input's files that are fetched ahead; larger files are read when it is their turn."""
_BUDGET = 64 << 20
"""Bytes that wait for their turn; an input that is being fetched counts as the largest."""


class _Fetched(NamedTuple):
    """A file, or a part of a tar."""

    name: str
    start: int
    """Offset of the data in the file."""
    data: bytes


_Waiting = tuple[KeyedInput, Future[list[_Fetched]]]


class _Ahead:
    """A source of which some files are at hand.

    Args:
        source: where all others are.
        files: each is handed out once: what is read again is read from the source.
    """

    def __init__(self, source: Source, files: list[_Fetched]):
        self._source, self._files = source, files

    def where(self, name: str) -> str:
        """The full address of a file."""
        return self._source.where(name)

    def chunks(self, name: str) -> Iterator[bytes]:
        """A whole file."""
        data = self._taken(name, 0, None)
        return self._source.chunks(name) if data is None else iter([data])

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of a file."""
        parts = [self._taken(name, offset, size) for offset, size in ranges]
        return self._source.read_ranges(name, ranges) if None in parts else parts

    def _taken(self, name: str, offset: int, size: int | None) -> bytes | None:
        for number, file in enumerate(self._files):
            end = None if size is None else offset - file.start + size
            if file.name == name and offset >= file.start and (end is None or end <= len(file.data)):
                return self._files.pop(number).data[offset - file.start : end]
        return None


def with_files_ahead(inputs: Sequence[KeyedInput], recipe: Recipe) -> Iterator[tuple[KeyedInput, Recipe]]:
    """Each input with a recipe whose source has that input's files at hand; on a disk nothing is fetched ahead.

    What cannot be fetched is read again by whoever needs it, so that errors are the same as without.

    Args:
        inputs: in order.
        recipe: what samples are made with.
    """
    if isinstance(recipe.source, LocalStorage):
        yield from ((one, recipe) for one in inputs)
        return
    rest, waiting = iter(inputs), deque[_Waiting]()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        while True:
            while len(waiting) < _AHEAD and sum(map(_bytes_of, waiting)) + _LARGEST <= _BUDGET:
                keyed = next(rest, None)
                if keyed is None:
                    break
                waiting.append((keyed, pool.submit(_fetch, keyed, recipe)))
            if not waiting:
                return
            keyed, future = waiting.popleft()
            yield keyed, recipe._replace(source=_Ahead(recipe.source, future.result()))
    finally:
        pool.shutdown(cancel_futures=True)


def _bytes_of(waiting: _Waiting) -> int:
    future = waiting[1]
    return sum(len(file.data) for file in future.result()) if future.done() else _LARGEST


def _fetch(keyed: KeyedInput, recipe: Recipe) -> list[_Fetched]:
    """The files of an input, as far as they can be read and are not too large."""
    one, name = keyed.input, recipe.spec.picture(keyed.input.name)
    if one.problem is not None or name is None:
        return []
    fetched: list[_Fetched] = []
    room = _LARGEST
    for path, place in ((one.path, one.picture), (name.label, one.label)):
        if path is None or (one.tar is not None and place is None):
            continue
        start, size = (0, None) if one.tar is None else with_header(place, one.header_size)
        try:
            data = _at_most(recipe.source, one.tar or path, start, size, room)
        except OSError:
            continue
        if data is not None:
            fetched.append(_Fetched(one.tar or path, start, data))
            room -= len(data)
    return fetched


def _at_most(source: Source, name: str, start: int, size: int | None, limit: int) -> bytes | None:
    """A whole file, or a part of it where a size is given; None where it is larger."""
    if size is not None:
        return source.read_ranges(name, [(start, size)])[0] if size <= limit else None
    data = bytearray()
    for chunk in source.chunks(name):
        data += chunk
        if len(data) > limit:
            return None
    return bytes(data)

"""Large sets of strings compared without having them in memory: by 8 bytes each, Python's salted hash."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa

Pieces = Iterable[list[str]]
"""Strings, some at a time."""


def hashes(pieces: Pieces) -> np.ndarray:
    """int64 [n], sorted; equal strings have equal hashes, but only in this process."""
    parts = [np.fromiter(map(hash, piece), np.int64, len(piece)) for piece in pieces]
    joined = np.concatenate([np.empty(0, np.int64), *parts])
    joined.sort()
    return joined


def has_repeats(pieces: Callable[[], Pieces]) -> bool:
    """Whether a string is there more than once.

    Args:
        pieces: the strings, read anew with each call: those of equal hashes are then compared themselves.
    """
    found = hashes(pieces())
    suspects = set(found[1:][found[1:] == found[:-1]].tolist())
    if not suspects:
        return False
    equal = [text for piece in pieces() for text in piece if hash(text) in suspects]
    return len(set(equal)) < len(equal)


def column_pieces(batches: Iterable[pa.RecordBatch], column: str) -> Pieces:
    """The strings of a column."""
    return (batch[column].to_pylist() for batch in batches)

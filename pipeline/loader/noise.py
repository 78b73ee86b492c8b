"""Noise for masked pixels: one table of hashes, of which every view takes the window that its seed chooses."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vice.pipeline.loader.counters import hash32

NUM_WINDOWS = 1 << 16
"""A view's seed chooses one."""


@lru_cache(maxsize=2)
def noise_table(count: int) -> np.ndarray:
    """float32 [count + NUM_WINDOWS], uniform in [-1, 1): hashes of their places, the same on every machine.

    Args:
        count: values of a view.
    """
    mixed = hash32(np.arange(count + NUM_WINDOWS, dtype=np.int64))
    # 24 bits, so that float32 holds them exactly and 1 is never reached
    return ((mixed >> 8) * 2.0**-23 - 1).astype(np.float32)


def noise_window(seed: int, count: int) -> slice:
    """The part of `noise_table(count)` that a view takes, as values [3, h, w].

    Args:
        seed: of the view's masking.
        count: values of a view.
    """
    first = seed % NUM_WINDOWS
    return slice(first, first + count)

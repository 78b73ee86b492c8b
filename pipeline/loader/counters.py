"""All chance of the loader: uniform numbers that are a function of (seed, purpose, epoch, sample), from NumPy's Philox.

No generator is shared or advanced, so a sample's views are the same whichever process makes them and in whatever order.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

PURPOSES = ("order", "geometry", "appearance", "masking", "windows")
"""Independent streams; the position in this tuple is part of the key, so add new ones at the end."""

_MASK32 = 0xFFFFFFFF

Integers = TypeVar("Integers")


def raw_draws(seed: int, purpose: str, epoch: int, sample: int, count: int) -> np.ndarray:
    """uint64 [count]: raw Philox draws, which no NumPy version changes."""
    generator = np.random.Philox(key=[seed, PURPOSES.index(purpose)], counter=[0, sample, epoch, 0])
    return generator.random_raw(count)


def uniforms(seed: int, purpose: str, epoch: int, sample: int, count: int) -> np.ndarray:
    """float64 [count], uniform in [0, 1) with 53 bits."""
    return (raw_draws(seed, purpose, epoch, sample, count) >> np.uint64(11)) * 2.0**-53


def hash32(values: Integers) -> Integers:
    """Mix integers to uniform 32-bit ones: int64 in, int64 in [0, 2**32) out; NumPy arrays and torch tensors alike.

    The mixing is the 32-bit integer permutation found by C. Wellons' hash prospector ("lowbias32"); only the low
    32 bits of the products count, so int64 overflow does no harm.
    """
    values = values & _MASK32
    values = ((values ^ (values >> 16)) * 0x7FEB352D) & _MASK32
    values = ((values ^ (values >> 15)) * 0x846CA68B) & _MASK32
    return values ^ (values >> 16)

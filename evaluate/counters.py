"""All chance of the evaluation: numbers that are a function of (seed, purpose, picture), from NumPy's Philox.

Nothing is shared or advanced, so a picture's draws do not depend on which other pictures are read, or in which order.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, UInt64

PURPOSES = ("changed light", "pixels", "noise", "patches", "batches", "regions", "pool")
"""Independent streams; the position in this tuple is part of the counter, so add new ones at the end."""


def raw_draws(seed: int, purpose: str, picture: int, count: int) -> UInt64[np.ndarray, " count"]:
    """Raw 64-bit Philox draws, which no NumPy version changes; keyed by seed and the picture's number."""
    generator = np.random.Philox(key=[seed, picture], counter=[0, 0, 0, PURPOSES.index(purpose)])
    return generator.random_raw(count)


def uniforms(seed: int, purpose: str, picture: int, count: int) -> Float64[np.ndarray, " count"]:
    """Uniform in [0, 1), with 53 bits."""
    return (raw_draws(seed, purpose, picture, count) >> np.uint64(11)) * 2.0**-53

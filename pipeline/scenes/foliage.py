"""Forms of vegetation that trees, bushes, hedges and far woods share: leaf texture and modelled crowns."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

LEAF_TILE = 208
"""Side of a leaf texture, which repeats."""

CROWN = 80
"""Pixels across which a crown's form is modelled before it is scaled to the picture."""


class Crown(NamedTuple):
    """A modelled crown, to be scaled."""

    lit: np.ndarray
    """float32 [CROWN, CROWN]: how much of the sun falls on it, 0..1."""
    cover: np.ndarray
    """float32 [CROWN, CROWN]: 0.5 at its outline, more inside."""


def leaf_tile(gen: np.random.Generator) -> np.ndarray:
    """Overlapping leaves, dark ones below bright ones: float32 [LEAF_TILE, LEAF_TILE, 2], brightness and hue offset."""
    count = 5500
    shapes = _leaf_shapes(*gen.uniform((0.9, 1.6), (1.6, 3.4)))
    leaves = shapes[gen.integers(0, len(shapes), count)]
    places = leaves + gen.integers(0, LEAF_TILE, (count, 1, 2))
    brightness = np.linspace(0.35, 1.15, count) + gen.normal(0, 0.2, count)
    values = np.stack([brightness, gen.normal(0, 1, count)], axis=-1).astype(np.float32)
    tile = np.full((LEAF_TILE, LEAF_TILE, 2), (0.35, 0.0), np.float32)
    # Where leaves overlap the last one stays, which NumPy promises for repeated indices.
    tile[places[..., 1] % LEAF_TILE, places[..., 0] % LEAF_TILE] = values[:, None]
    return np.maximum(tile, (0.1, -9)).astype(np.float32)


def _leaf_shapes(narrow: float, long: float) -> np.ndarray:
    """Offsets (x, y) of the pixels of an ellipse turned eight ways, int [8, pixels, 2]; short lists repeat."""
    y, x = np.mgrid[-4:5, -4:5]
    shapes = []
    for angle in np.arange(8) * np.pi / 8:
        along, aside = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        inside = (along / long) ** 2 + (aside / narrow) ** 2 <= 1
        shapes.append(np.stack([x[inside], y[inside]], axis=1))
    longest = max(len(shape) for shape in shapes)
    return np.stack([np.pad(shape, ((0, longest - len(shape)), (0, 0)), mode="edge") for shape in shapes])


def model_crown(gen: np.random.Generator, sun: np.ndarray) -> Crown:
    """Model a crown as a heap of balls.

    Args:
        gen: draws the balls.
        sun: float [3], unit camera direction towards the sun.
    """
    y, x = np.mgrid[-1 : 1 : CROWN * 1j, -1 : 1 : CROWN * 1j].astype(np.float32)
    count = int(gen.integers(12, 30))
    angle, reach = gen.uniform(0, 2 * np.pi, count), np.sqrt(gen.uniform(0, 1, count)) * 0.72
    radius = gen.uniform(0.13, 0.38, count) * (1.15 - 0.4 * reach)
    heap = np.full_like(x, -1)
    for centre_x, centre_y, r in np.stack([reach * np.cos(angle), reach * np.sin(angle), radius], axis=1).astype(
        np.float32
    ):
        inside = r * r - (x - centre_x) ** 2 - (y - centre_y) ** 2
        heap = np.maximum(heap, np.where(inside > 0, np.sqrt(np.abs(inside)), inside))
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(np.maximum(heap, 0), (0, 0), 1.5), 2 / CROWN)
    facing = -slope_x * np.float32(sun[0]) + slope_y * np.float32(sun[1]) - np.float32(sun[2])
    lit = np.clip(facing / np.sqrt(1 + slope_x**2 + slope_y**2), 0, 1)
    return Crown((0.7 * lit + 0.15 * (1 - y)).astype(np.float32), np.clip(heap, -0.4, 0.2) * 3 + np.float32(0.5))

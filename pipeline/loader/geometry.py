"""Where views lie in a picture: a pure function of (picture size, density, uniforms); paper, section 3.2.

A centre is drawn from the density map. View 1 lies there; each other view has a sector of the circle around it, an
angle and a radius. Views are squares of side β × view size, at most the picture's shorter side, moved wholly inside.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from vice.pipeline.loader.settings import ViewSettings

NUM_ATTEMPTS = 16
"""Redraws before the views are laid around one centre, where they share the smallest of them."""

VON_MISES_KAPPA = 2.0
"""Concentration of angle and radius (FIDELITY: the authors' values)."""


class Boxes(NamedTuple):
    """Crops of one picture."""

    left: np.ndarray
    """int64 [m], picture pixels."""
    top: np.ndarray
    """int64 [m], picture pixels."""
    side: np.ndarray
    """int64 [m], picture pixels."""

    def common(self) -> tuple[int, int, int, int]:
        """The rectangle inside all crops as (left, top, right, bottom); empty where right <= left or bottom <= top."""
        right, bottom = self.left + self.side, self.top + self.side
        return int(self.left.max()), int(self.top.max()), int(right.min()), int(bottom.min())


class Placement(NamedTuple):
    """Crops and what they lie around."""

    boxes: Boxes
    centre: tuple[float, float]
    """The point (x, y) that was drawn from the density, in picture pixels."""


def num_uniforms(num_views: int) -> int:
    """How many uniforms `place_views` wants for so many views."""
    return NUM_ATTEMPTS * _per_attempt(num_views)


def _per_attempt(num_views: int) -> int:
    # centre cell, place in the cell (2), turn of the sectors, beta of each view, angle and radius of all but view 1
    return 4 + num_views + 2 * (num_views - 1)


def place_views(
    width: int, height: int, density: np.ndarray, density_stride: int, uniforms: np.ndarray, settings: ViewSettings
) -> Boxes:
    """The crops of `place_around_centre`."""
    return place_around_centre(width, height, density, density_stride, uniforms, settings).boxes


def place_around_centre(
    width: int, height: int, density: np.ndarray, density_stride: int, uniforms: np.ndarray, settings: ViewSettings
) -> Placement:
    """Draw the crops of one picture.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        density: uint8 [ceil(height / stride), ceil(width / stride)], content density.
        density_stride: picture pixels per density cell.
        uniforms: float64 [num_uniforms(m)] in [0, 1).
        settings: number and size of views, range of β, region layer.

    Returns:
        Crops whose common rectangle spans at least two region sizes, or what the picture has where it is smaller.
    """
    attempts = uniforms.reshape(NUM_ATTEMPTS, _per_attempt(settings.num_views))
    wanted = min(2 * settings.region_size, width, height)
    for attempt in attempts:
        placement = _draw(width, height, density, density_stride, attempt, settings, spread=1.0)
        left, top, right, bottom = placement.boxes.common()
        if min(right - left, bottom - top) >= wanted:
            return placement
    return _draw(width, height, density, density_stride, attempts[0], settings, spread=0.0)


def _draw(width, height, density, density_stride, attempt, settings, *, spread: float) -> Placement:
    num_views = settings.num_views
    x, y = _centre(width, height, density, density_stride, attempt[:3])
    short = min(width, height)
    low, high = settings.resize
    beta = low + (high - low) * attempt[4 : 4 + num_views]
    side = np.clip(np.rint(beta * settings.size), 1, short).astype(np.int64)
    angle, radius = attempt[4 + num_views :].reshape(2, num_views - 1)
    reach = spread * min(settings.size, short) / 2
    offset = np.zeros((2, num_views))
    offset[:, 1:] = _offsets(attempt[3], angle, radius, reach)
    left = np.clip(np.rint(x + offset[0] - side / 2), 0, width - side).astype(np.int64)
    top = np.clip(np.rint(y + offset[1] - side / 2), 0, height - side).astype(np.int64)
    return Placement(Boxes(left, top, side), (float(x), float(y)))


def _centre(width: int, height: int, density: np.ndarray, stride: int, uniforms: np.ndarray) -> tuple[float, float]:
    """A point drawn with the density's probability, uniform within its cell; in picture pixels."""
    cumulative = np.cumsum(density, dtype=np.float64)
    if cumulative[-1] <= 0:
        return width * uniforms[1], height * uniforms[2]
    cell = int(np.searchsorted(cumulative, uniforms[0] * cumulative[-1], side="right"))
    row, column = divmod(min(cell, density.size - 1), density.shape[1])
    return min((column + uniforms[1]) * stride, width), min((row + uniforms[2]) * stride, height)


def _offsets(turn: float, angle: np.ndarray, radius: np.ndarray, reach: float) -> np.ndarray:
    """[2, m - 1]: offsets (x, y) of views 2 to m, one per sector; radius 0 to `reach`."""
    sector = 2 * np.pi / max(len(angle), 1)
    middle = sector * (np.arange(len(angle)) + turn)
    direction = middle + _von_mises(angle) / np.pi * sector / 2
    distance = reach * (_von_mises(radius) + np.pi) / (2 * np.pi)
    return distance * np.stack([np.cos(direction), np.sin(direction)])


def _von_mises(uniforms: np.ndarray) -> np.ndarray:
    """Von Mises angles in [-π, π] around 0 from uniforms, through the inverse of the distribution function."""
    angles, cumulative = _von_mises_table()
    return np.interp(uniforms, cumulative, angles)


@cache
def _von_mises_table() -> tuple[np.ndarray, np.ndarray]:
    angles = np.linspace(-np.pi, np.pi, 4097)
    density = np.exp(VON_MISES_KAPPA * np.cos(angles))
    steps = (density[1:] + density[:-1]) / 2 * np.diff(angles)
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return angles, cumulative / cumulative[-1]

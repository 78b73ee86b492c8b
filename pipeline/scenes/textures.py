"""Procedural textures: noise of several scales, masonry; and the wide palettes that albedo is drawn from.

Made once per scene (`Textures`); painters cut pieces out of it. Values are relative: about 1 for surfaces, about 0 for
noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vice.pipeline.scenes.foliage import Crown, leaf_tile, model_crown

TILE = 256
"""Side of a noise tile, which repeats."""


@dataclass(frozen=True)
class Textures:
    """Textures of one scene."""

    grain: np.ndarray
    """float32 [TILE, TILE], white noise of unit variance."""
    cloud: np.ndarray
    """float32 [TILE, TILE], noise of all scales, periodic, unit variance."""
    blades: np.ndarray
    """float32 [TILE, TILE], upright streaks, unit variance."""
    leaves: np.ndarray
    """float32 [LEAF_TILE, LEAF_TILE, 2]: brightness (near 1) and hue offset of leaves."""
    crowns: list[Crown]

    def piece(self, tile: np.ndarray, height: int, width: int, gen: np.random.Generator) -> np.ndarray:
        """A [height, width] piece of a tile from a random place, repeating as needed."""
        top, left = (int(start) for start in gen.integers(0, tile.shape[0], 2))
        if top + height <= tile.shape[0] and left + width <= tile.shape[1]:
            return tile[top : top + height, left : left + width]
        rows, columns = (np.arange(height) + top) % tile.shape[0], (np.arange(width) + left) % tile.shape[1]
        return tile.take(rows, axis=0).take(columns, axis=1)


def draw_textures(gen: np.random.Generator, sun: np.ndarray) -> Textures:
    """Make the textures of one scene, whose sun stands in the unit camera direction `sun` [3]."""
    grain = gen.standard_normal((TILE, TILE), np.float32)
    blades = cv2.blur(grain, (1, 7), borderType=cv2.BORDER_REFLECT)
    return Textures(
        grain=grain,
        cloud=periodic_noise(gen, octaves=6, fall=gen.uniform(0.55, 0.7)),
        blades=blades / blades.std(),
        leaves=leaf_tile(gen),
        crowns=[model_crown(gen, sun) for _ in range(5)],
    )


def periodic_noise(gen: np.random.Generator, *, octaves: int, fall: float) -> np.ndarray:
    """Noise, float32 [TILE, TILE], of unit variance: octaves of 4, 8, 16... cells, each `fall` times the last."""
    total = np.zeros((TILE, TILE), np.float32)
    for octave in range(octaves):
        cells = 4 << octave
        grid = np.pad(gen.standard_normal((cells, cells), np.float32), 2, mode="wrap")
        step = TILE // cells
        big = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += np.float32(fall**octave) * big[2 * step : -2 * step, 2 * step : -2 * step]
    total -= total.mean()
    return total / total.std()


def masonry(
    gen: np.random.Generator, height: int, width: int, course: float, length: float, mortar: float
) -> np.ndarray:
    """Courses of bricks or blocks, float32 [height, width] near 1.

    Args:
        gen: draws every stone's shade.
        height: of the wall, pixels.
        width: of the wall, pixels.
        course: height of a course, pixels.
        length: length of a stone, pixels.
        mortar: relative brightness of the joints.
    """
    rows, columns = np.arange(height), np.arange(width)
    row = (rows / course).astype(int)
    along = columns[None] / length + 0.5 * (row % 2)[:, None]
    shades = gen.normal(1, 0.13, (row[-1] + 1, int(width / length) + 2)).astype(np.float32)
    wall = shades[row[:, None], along.astype(int)]
    joint = ((rows % course) < 1)[:, None] | ((along * length) % length < 1)
    return np.where(joint, np.float32(mortar), wall) if min(course, length) >= 3 else wall


def from_hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Linear R, G, B, float32 [3], of hue in degrees, saturation and value 0..1 as seen on a screen."""
    offsets = (np.array([5.0, 3.0, 1.0]) + hue / 60) % 6
    screen = value * (1 - saturation * np.clip(np.minimum(offsets, 4 - offsets), 0, 1))
    return (screen**2.2).astype(np.float32)


def draw_paint(gen: np.random.Generator) -> np.ndarray:
    """Albedo of anything painted or dyed, [3]: half of them grey, any hue, any brightness."""
    saturation = gen.uniform(0, 0.12) if gen.uniform() < 0.5 else gen.uniform(0.1, 0.75)
    return from_hsv(gen.uniform(0, 360), saturation, gen.uniform(0.12, 0.95))


def draw_wall(gen: np.random.Generator) -> np.ndarray:
    """Albedo of a wall, [3]: mostly brick, stone, render from dark brown to white; some of any colour."""
    if gen.uniform() < 0.2:
        return from_hsv(gen.uniform(0, 360), gen.uniform(0.1, 0.45), gen.uniform(0.3, 0.95))
    return from_hsv(gen.normal(28, 14), gen.uniform(0, 0.5), gen.uniform(0.22, 0.95))


def draw_asphalt(gen: np.random.Generator) -> np.ndarray:
    """Albedo of paved ground, [3]: grey to brownish, bluish or reddish, dark to bleached."""
    hue = gen.normal(30, 20) if gen.uniform() < 0.7 else gen.normal(215, 20)
    return from_hsv(hue, gen.uniform(0, 0.22), gen.uniform(0.22, 0.78))


def draw_foliage(gen: np.random.Generator) -> np.ndarray:
    """Albedo of leaves, [3]: dark and grey green to yellow green, and autumn's yellow, brown and red."""
    kind = gen.uniform()
    if kind < 0.6:
        return from_hsv(gen.normal(100, 30), gen.uniform(0.04, 0.55), gen.uniform(0.2, 0.75))
    if kind < 0.85:
        return from_hsv(gen.normal(38, 12), gen.uniform(0.08, 0.6), gen.uniform(0.25, 0.85))
    return from_hsv(gen.normal(15, 12), gen.uniform(0.05, 0.45), gen.uniform(0.18, 0.65))

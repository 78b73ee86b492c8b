"""What scenes are painted on: radiance, labels and depth per pixel, with hidden surfaces resolved by depth.

Every painter of the package ends here: a patch of radiance with coverage and depth, put where nothing nearer stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np

from vice.pipeline.scenes.light import Light

WIDTH, HEIGHT = 320, 240


class Label(IntEnum):
    """Classes, in the order of `data_specs/datasets/scenes.yaml`. Road is all paved ground, vegetation holds grass."""

    SKY = 0
    ROAD = 1
    BUILDING = 2
    VEGETATION = 3
    CAR = 4
    POLE = 5
    PERSON = 6


@dataclass
class Canvas:
    """A picture being painted."""

    light: Light
    radiance: np.ndarray
    """float32 [HEIGHT, WIDTH, 3], linear."""
    labels: np.ndarray
    """uint8 [HEIGHT, WIDTH]."""
    depth: np.ndarray
    """float32 [HEIGHT, WIDTH], metres along the camera's axis; infinite in the sky."""

    @classmethod
    def of_sky(cls, radiance: np.ndarray, light: Light) -> Canvas:
        """Start from a whole picture of sky, radiance float32 [HEIGHT, WIDTH, 3]."""
        labels = np.full((HEIGHT, WIDTH), Label.SKY, np.uint8)
        return cls(light, radiance.astype(np.float32), labels, np.full((HEIGHT, WIDTH), np.inf, np.float32))

    def paint(
        self,
        radiance: np.ndarray,
        cover: np.ndarray,
        depth: np.ndarray | float,
        left: int,
        top: int,
        label: np.ndarray | Label,
    ) -> None:
        """Paint a patch where nothing nearer stands; haze is added by depth.

        Args:
            radiance: float32 [h, w, 3].
            cover: float32 [h, w], 0..1; a pixel takes the label where the patch covers at least half of it.
            depth: metres, one for all or [h, w].
            left: column of the patch's first pixel; the patch may reach over the picture's edges.
            top: row of the patch's first pixel.
            label: one for all or uint8 [h, w].
        """
        rows = slice(max(top, 0), min(top + cover.shape[0], HEIGHT))
        columns = slice(max(left, 0), min(left + cover.shape[1], WIDTH))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        outer = (rows, columns)
        depth = depth[inner] if isinstance(depth, np.ndarray) else np.float32(depth)
        # What stands on the ground or against a wall has the depth of its middle: let it win by its own thickness.
        cover = cover[inner] * (depth * 0.97 - 0.3 < self.depth[outer])
        clear = np.exp(-np.float32(self.light.haze) * depth)
        clear = clear[..., None] if isinstance(clear, np.ndarray) and clear.ndim else clear
        hazy = self.light.air + clear * (radiance[inner] - self.light.air)
        self.radiance[outer] += cover[..., None] * (hazy - self.radiance[outer])
        solid = cover >= 0.5
        self.labels[outer] = np.where(
            solid, label[inner] if isinstance(label, np.ndarray) else np.uint8(label), self.labels[outer]
        )
        self.depth[outer] = np.where(solid, depth, self.depth[outer])

    def paint_quad(
        self, texture: np.ndarray, cover: np.ndarray, corners: np.ndarray, depths: np.ndarray, label: Label
    ) -> None:
        """Paint a flat rectangle seen in perspective.

        Args:
            texture: float32 [h, w, 3], radiance.
            cover: float32 [h, w], 0..1.
            corners: float [4, 2], pixels: where the texture's corners fall, clockwise from its top left.
            depths: float [4], metres, of the corners; all positive.
            label: its class.
        """
        low = np.clip(np.floor(corners.min(axis=0)) - 1, 0, (WIDTH, HEIGHT)).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, (WIDTH, HEIGHT)).astype(int)
        if (high - low < 1).any():
            return
        texture, cover = _fit(texture, cover, corners)
        height, width = cover.shape
        ends = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - np.float32(0.5)
        target = (corners - low - 0.5).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(ends, target)
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        warped = cv2.warpPerspective(texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpPerspective(cover, matrix, size, flags=cv2.INTER_LINEAR)
        # One over depth is linear across the picture of a plane.
        plane = np.linalg.lstsq(np.c_[target, np.ones(4)], 1 / depths, rcond=None)[0]
        x, y = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
        inverse = plane[0] * x + plane[1] * y + plane[2]
        depth = (1 / np.clip(inverse, 1 / depths.max(), 1 / depths.min())).astype(np.float32)
        self.paint(warped, mask, depth, int(low[0]), int(low[1]), label)


def _fit(texture: np.ndarray, cover: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a texture (by area) that is drawn finer than it will be seen, which would alias."""
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    seen = np.maximum(sides[[0, 1]], sides[[2, 3]]) * 1.2
    height, width = cover.shape
    size = (int(np.clip(seen[0], 2, width)), int(np.clip(seen[1], 2, height)))
    if size == (width, height):
        return texture, cover
    return cv2.resize(texture, size, interpolation=cv2.INTER_AREA), cv2.resize(
        cover, size, interpolation=cv2.INTER_AREA
    )


def in_sight(points: np.ndarray) -> bool:
    """Whether the box round some pixels (float [n, 2]) and the picture overlap."""
    return bool((points.max(axis=0) > 0).all() and (points.min(axis=0) < (WIDTH, HEIGHT)).all())


class Patch:
    """A small drawing of polygons, made `fine` times finer than the picture and then averaged.

    Args:
        points: float [n, 2], pixels of the picture, which the patch must hold.
        fine: pixels drawn per pixel of the picture and axis.
    """

    def __init__(self, points: np.ndarray, fine: int = 3):
        low = np.clip(np.floor(points.min(axis=0)) - 1, (-WIDTH, -HEIGHT), (WIDTH, HEIGHT)).astype(int)
        high = np.clip(np.ceil(points.max(axis=0)) + 1, (0, 0), (2 * WIDTH, 2 * HEIGHT)).astype(int)
        self.left, self.top, self.fine = int(low[0]), int(low[1]), fine
        self.size = tuple(int(side) for side in np.maximum(high - low, 1))
        self.radiance = np.zeros((self.size[1] * fine, self.size[0] * fine, 3), np.float32)
        self.cover = np.zeros(self.radiance.shape[:2], np.uint8)

    def polygon(self, points: np.ndarray, radiance: np.ndarray) -> None:
        """Fill a polygon (float [n, 2], pixels of the picture) with radiance [3]."""
        drawn = np.rint((points - (self.left, self.top)) * self.fine - 0.5).astype(np.int32)
        cv2.fillPoly(self.radiance, [drawn], tuple(float(value) for value in radiance))
        cv2.fillPoly(self.cover, [drawn], 255)

    def paint_on(self, canvas: Canvas, depth: float, label: Label, *, blotches: np.ndarray | None = None) -> None:
        """Average down and paint; `blotches` (float32, any small size) is spread over it as relative brightness."""
        cover = cv2.resize(self.cover, self.size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        radiance = cv2.resize(self.radiance, self.size, interpolation=cv2.INTER_AREA)
        if blotches is not None:
            radiance *= cv2.resize(blotches, self.size, interpolation=cv2.INTER_LINEAR)[..., None]
        canvas.paint(radiance / np.maximum(cover, 1e-3)[..., None], cover, depth, self.left, self.top, label)

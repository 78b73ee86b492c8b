"""Buildings: boxes beside or across the street, facades on the two faces seen, and flat, pitched or gabled roofs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vice.pipeline.scenes.canvas import Canvas, Label, in_sight
from vice.pipeline.scenes.facades import Style, draw_style, facade
from vice.pipeline.scenes.street import Street
from vice.pipeline.scenes.textures import Textures, draw_wall, masonry


@dataclass(frozen=True)
class Building:
    """A box: from `near` to `far` along the street, its inner wall at `inner`, its outer one at `outer` (metres)."""

    inner: float
    outer: float
    near: float
    far: float
    height: float
    roof: float
    """Height of a pitched roof above the walls; 0 for a flat one."""

    def paint(self, canvas: Canvas, street: Street, textures: Textures, gen: np.random.Generator) -> None:
        """Paint the roof, the wall across the street and the wall along it."""
        style, tiles = draw_style(gen), draw_wall(gen) * np.float32(0.55)
        near = max(self.near, street.nearest_seen(self.inner))
        if near > self.far - 0.5:
            return
        middle = (self.inner + self.outer) / 2
        slope = np.array([self.roof, -0.15]) + self.height
        if self.roof:
            along = np.array([near, self.far])
            self._paint_roof(canvas, street, (middle, self.inner), along, slope, tiles, textures, gen)
        if self.near > max(street.nearest_seen(self.inner), street.nearest_seen(self.outer)) + 0.5:
            gable = self.roof > 0 and abs(self.outer - self.inner) < 16
            across = (min(self.inner, self.outer), max(self.inner, self.outer))
            self._paint_wall(canvas, street, across, (self.near, self.near), style, textures, gen, gable=gable)
        # A wall on the right has its far end at the left, as the eye sees it.
        ends = (self.far, near) if self.inner > 0 else (near, self.far)
        self._paint_wall(canvas, street, (self.inner, self.inner), ends, style, textures, gen, gable=False)

    def _paint_wall(
        self,
        canvas: Canvas,
        street: Street,
        t: tuple[float, float],
        s: tuple[float, float],
        style: Style,
        textures: Textures,
        gen: np.random.Generator,
        *,
        gable: bool,
    ) -> None:
        """Paint the wall whose left and right ends are at (t, s)."""
        top = self.height + (self.roof if gable else 0)
        ends = street.camera(
            np.array([t[0], t[1], t[1], t[0]]), np.array([s[0], s[1], s[1], s[0]]), np.array([top, top, -0.3, -0.3])
        )
        corners, depths = street.project(ends), ends[:, 2]
        if (depths <= 0.2).any() or not in_sight(corners):
            return
        width = float(np.hypot(t[1] - t[0], s[1] - s[0]))
        scale = float(np.clip(street.focal / np.clip(depths.min(), 4, None), 2.5, 24))
        face = facade(style, width, top, scale, textures, gen)
        normal = street.normal(0, -1) if s[0] == s[1] else street.normal(-np.sign(t[0]), 0)
        cover = np.ones(face.shape[:2], np.float32)
        if gable:
            eaves = int(face.shape[0] * self.roof / top)
            reach = np.abs(np.linspace(-1, 1, face.shape[1]))
            cover[:eaves] = reach[None] <= np.linspace(0, 1, max(eaves, 1))[:, None]
        canvas.paint_quad(face * canvas.light.shade(normal), cover, corners, depths, Label.BUILDING)

    def _paint_roof(
        self,
        canvas: Canvas,
        street: Street,
        t: tuple[float, float],
        s: np.ndarray,
        up: np.ndarray,
        tiles: np.ndarray,
        textures: Textures,
        gen: np.random.Generator,
    ) -> None:
        """Paint the slope from the ridge at t[0], up[0] down to the eaves at t[1], up[1]."""
        ends = street.camera(np.array([t[0], t[0], t[1], t[1]]), s[[0, 1, 1, 0]], up[[0, 0, 1, 1]])
        if (ends[:, 2] <= 0.2).any() or not in_sight(street.project(ends)):
            return
        scale = float(np.clip(street.focal / np.clip(ends[:, 2].min(), 4, None), 2.5, 14))
        rows = max(int(np.hypot(up[0] - up[1], t[0] - t[1]) * scale), 2)
        columns = max(int((s[1] - s[0]) * scale), 2)
        tone = masonry(gen, rows, columns, max(0.35 * scale, 2), max(0.4 * scale, 2), 0.6)
        tone = tone * (1 + 0.12 * textures.piece(textures.cloud, rows, columns, gen))
        steep = np.hypot(self.roof, t[1] - t[0])
        normal = street.normal(np.sign(t[1] - t[0]), 0) * self.roof / steep + np.array([0, abs(t[1] - t[0]) / steep, 0])
        radiance = tone.astype(np.float32)[..., None] * (tiles * canvas.light.shade(normal))
        canvas.paint_quad(
            radiance, np.ones((rows, columns), np.float32), street.project(ends), ends[:, 2], Label.BUILDING
        )

"""Vegetation that stands: trees with ragged crowns and trunks, bushes, hedges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vice.pipeline.scenes.canvas import HEIGHT, WIDTH, Canvas, Label, Patch, in_sight
from vice.pipeline.scenes.street import Street
from vice.pipeline.scenes.textures import Textures, from_hsv

LEAVES_PER_METRE = 34.0
"""Scale, pixels a metre, at which the leaf texture is as drawn."""


@dataclass(frozen=True)
class Plant:
    """A tree or bush that stands at (t, s). Lengths in metres."""

    t: float
    s: float
    height: float
    width: float
    trunk: float
    """Height of the crown's foot above the ground."""
    foliage: np.ndarray
    """Albedo of its leaves, float32 [2, 3]: between these two."""

    def paint(self, canvas: Canvas, street: Street, textures: Textures, gen: np.random.Generator) -> None:
        """Paint trunk and crown."""
        depth = street.depth(self.t, self.s)
        if depth < 2:
            return
        foot, scale = street.pixels(self.t, self.s, 0.0), street.focal / depth
        width, height = (int(np.clip(side * scale, 2, 420)) for side in (self.width, (self.height - self.trunk) * 1.08))
        left, top = round(foot[0] - width / 2), round(foot[1] - self.height * scale)
        if left >= WIDTH or left + width <= 0 or top >= HEIGHT or foot[1] <= 0:
            return
        if self.trunk > 0.4:
            self._paint_trunk(canvas, foot, scale, depth, gen)
        crown = textures.crowns[int(gen.integers(len(textures.crowns)))]
        lit = cv2.resize(crown.lit, (width, height), interpolation=cv2.INTER_LINEAR)
        cover = cv2.resize(crown.cover, (width, height), interpolation=cv2.INTER_LINEAR)
        tone, hue = leaves(textures, height, width, scale, gen)
        clumps = textures.piece(textures.cloud, height, width, gen)
        cover = cover + 0.14 * clumps + (tone - 0.8) * np.float32(gen.uniform(0.25, 0.7))
        cover = np.clip((cover - 0.5) * 4 + 0.5, 0, 1)
        radiance = leaf_radiance(canvas, self.foliage, tone * (1 + 0.15 * clumps), hue, lit)
        canvas.paint(radiance, cover, depth, left, top, Label.VEGETATION)

    def _paint_trunk(
        self, canvas: Canvas, foot: np.ndarray, scale: float, depth: float, gen: np.random.Generator
    ) -> None:
        half = max(0.035 * self.height * scale / 2, 0.7)
        rise = (self.trunk + 0.35 * (self.height - self.trunk)) * scale
        outline = np.array([[-1.3, 0], [-0.7, -rise], [0.7, -rise], [1.3, 0]]) * (half, 1)
        bark = from_hsv(gen.normal(30, 12), gen.uniform(0.05, 0.4), gen.uniform(0.15, 0.5))
        light = canvas.light
        patch = Patch(foot + outline)
        patch.polygon(foot + outline, bark * light.ambient * 0.7)
        side = 0.1 if light.sun_direction[0] > 0 else -0.1
        lit = np.array([[side, 0], [side, -rise], [7 * side, -rise], [13 * side, 0]]) * (half, 1)
        patch.polygon(foot + lit, bark * (light.ambient + light.sun * 0.4))
        patch.paint_on(canvas, depth, Label.VEGETATION)


@dataclass(frozen=True)
class Hedge:
    """A trimmed hedge along the street at `t`, from `near` to `far`. Lengths in metres."""

    t: float
    near: float
    far: float
    height: float
    foliage: np.ndarray
    """Albedo of its leaves, float32 [2, 3]: between these two."""

    @property
    def s(self) -> float:
        """Where it counts as standing when things are painted far to near."""
        return (self.near + self.far) / 2

    def paint(self, canvas: Canvas, street: Street, textures: Textures, gen: np.random.Generator) -> None:
        """Paint its near end, then the side towards the road."""
        near = max(self.near, street.nearest_seen(self.t) + 0.3)
        if near > self.far - 0.5:
            return
        outer = self.t + np.sign(self.t) * 1.0
        if near == self.near:
            ends = (self.t, outer) if self.t > 0 else (outer, self.t)
            self._paint_face(canvas, street, ends, (near, near), street.normal(0, -1), textures, gen)
        along = (self.far, near) if self.t > 0 else (near, self.far)
        self._paint_face(canvas, street, (self.t, self.t), along, street.normal(-np.sign(self.t), 0), textures, gen)

    def _paint_face(
        self,
        canvas: Canvas,
        street: Street,
        t: tuple[float, float],
        s: tuple[float, float],
        normal: np.ndarray,
        textures: Textures,
        gen: np.random.Generator,
    ) -> None:
        """Paint the face whose left and right ends are at (t, s)."""
        ends = street.camera(np.array(t)[[0, 1, 1, 0]], np.array(s)[[0, 1, 1, 0]], np.array([1, 1, 0, 0]) * self.height)
        if (ends[:, 2] <= 0.2).any() or not in_sight(street.project(ends)):
            return
        scale = float(np.clip(street.focal / max(ends[:, 2].min(), 5), 5, 30))
        width, height = max(int(np.hypot(t[1] - t[0], s[1] - s[0]) * scale), 2), max(int(self.height * scale), 2)
        tone, hue = leaves(textures, height, width, scale, gen)
        ragged = textures.piece(textures.cloud, 1, width, gen) * 0.08 + 0.1
        down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        cover = np.clip((down - ragged + 0.15 * (tone - 0.8)) * height * 0.7 + 0.5, 0, 1).astype(np.float32)
        facing = max(float(normal @ canvas.light.sun_direction), 0)
        lit = (facing + 0.6 * np.exp(-down * 8) + 0.1) * np.ones_like(tone)
        canvas.paint_quad(
            leaf_radiance(canvas, self.foliage, tone, hue, lit),
            cover,
            street.project(ends),
            ends[:, 2],
            Label.VEGETATION,
        )


def leaves(
    textures: Textures, height: int, width: int, scale: float, gen: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Brightness and hue offset of foliage at `scale` pixels a metre, float32 [height, width] each."""
    zoom = float(np.clip(scale / LEAVES_PER_METRE, 0.35, 1.5))
    piece = textures.piece(textures.leaves, int(height / zoom) + 1, int(width / zoom) + 1, gen)
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    piece = cv2.resize(piece, (width, height), interpolation=method)
    return piece[..., 0], piece[..., 1]


def leaf_radiance(
    canvas: Canvas, foliage: np.ndarray, tone: np.ndarray, hue: np.ndarray, lit: np.ndarray
) -> np.ndarray:
    """Radiance of leaves, float32 [h, w, 3].

    Args:
        canvas: for its light.
        foliage: albedo, float32 [2, 3].
        tone: leaves' brightness, [h, w].
        hue: leaves' hue offset, [h, w].
        lit: how much of the sun falls there, [h, w], 0..1.
    """
    mix = np.clip(0.3 + 0.22 * hue, 0, 1)[..., None]
    irradiance = canvas.light.ambient * 1.1 + lit[..., None] * (1.4 * canvas.light.sun)
    return (
        (foliage[0] + mix * (foliage[1] - foliage[0])) * irradiance * (tone * (0.55 + 0.45 * lit))[..., None]
    ).astype(np.float32)

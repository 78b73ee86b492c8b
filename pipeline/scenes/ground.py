"""The ground: carriageway with markings, wear and patches; kerb and slabs; grass; and the shadows that lie on it.

Painted after the sky and before anything that stands. Every ground pixel is looked up in street coordinates, so grain,
markings and slabs follow the perspective.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from vice.pipeline.scenes.canvas import HEIGHT, WIDTH, Canvas, Label
from vice.pipeline.scenes.street import Street
from vice.pipeline.scenes.textures import Textures, draw_asphalt, draw_foliage


@dataclass
class Shadows:
    """What takes the sun off the ground."""

    walls: dict[int, list[tuple[float, float, float, float]]] = field(default_factory=lambda: {-1: [], 1: []})
    """By side: wall's t, its first and last s, height; metres."""
    solid: list[np.ndarray] = field(default_factory=list)
    """Outlines on the ground, float [n, 2] (t, s), in full shadow."""
    dappled: list[np.ndarray] = field(default_factory=list)
    """Outlines under foliage."""


@dataclass(frozen=True)
class _Ground:
    """The place on the ground of every pixel from row `first` down (float32 [rows, WIDTH], depth z [rows, 1])."""

    first: int
    z: np.ndarray
    t: np.ndarray
    s: np.ndarray

    def look_up(self, tile: np.ndarray, per_metre: float) -> np.ndarray:
        """A repeating tile spread on the ground with `per_metre` of its pixels a metre, float32 [rows, WIDTH]."""
        scale = np.float32(per_metre)
        return cv2.remap(tile, self.t * scale, self.s * scale, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)

    def fade(self, metres: float) -> np.ndarray:
        """1 near, falling to 0 where detail is finer than the picture, float32 [rows, 1]."""
        return np.exp(-self.z / np.float32(metres))


def paint_ground(
    canvas: Canvas,
    street: Street,
    grass: dict[int, bool],
    shadows: Shadows,
    textures: Textures,
    gen: np.random.Generator,
) -> None:
    """Paint the ground.

    Args:
        canvas: holds the sky.
        street: camera and road.
        grass: by side (-1 left, 1 right), whether grass lies beyond the pavement; else it is paved.
        shadows: what takes the sun off it.
        textures: the scene's.
        gen: draws albedo, markings, wear.
    """
    place = _Ground(*street.ground())
    road = _carriageway(place, street, textures, gen)
    paving = _paving(place, street, textures, gen)
    side = np.abs(place.t)
    inside = np.clip((street.half_road - side) / np.maximum(place.z / street.focal, 0.01) + 0.5, 0, 1)[..., None]
    albedo = paving + inside * (road - paving)
    beyond = side > street.half_road + street.pavement
    lawn = beyond & np.where(place.t < 0, grass[-1], grass[1])
    if lawn.any():
        albedo = np.where(lawn[..., None], _grass(place, textures, gen), albedo)
    light = canvas.light
    shade = _shade(place, street, shadows, light.sun_direction, textures)[..., None]
    radiance = albedo * light.ground * (1 - shade * (1 - light.shadow))
    labels = np.where(lawn, Label.VEGETATION, Label.ROAD).astype(np.uint8)
    depth = np.broadcast_to(place.z, lawn.shape)
    canvas.paint(radiance.astype(np.float32), np.ones(lawn.shape, np.float32), depth, 0, place.first, labels)


def _carriageway(place: _Ground, street: Street, textures: Textures, gen: np.random.Generator) -> np.ndarray:
    """Albedo of the road, float32 [rows, WIDTH, 3]."""
    base = draw_asphalt(gen)
    coarse = place.look_up(textures.grain, 22) * place.fade(6)
    grain = textures.piece(textures.grain, *place.t.shape, gen) * (0.35 + 0.65 * place.fade(18))
    stains = place.look_up(textures.cloud, gen.uniform(3, 9))
    lane = street.half_road / max(1, round(street.half_road / 3.0))
    tracks = np.cos((place.t / lane + gen.uniform(0, 1)) * 2 * np.pi)
    tone = (
        1
        + gen.uniform(0.04, 0.1) * grain
        + 0.1 * coarse
        + gen.uniform(0.04, 0.14) * stains
        + gen.uniform(0, 0.08) * tracks
    )
    tone = tone * _patches(place, street, gen)
    albedo = np.maximum(tone, 0.2)[..., None] * base
    marks, paint = _markings(place, street, lane, gen)
    worn = np.clip(marks * (0.9 + 0.25 * stains) * gen.uniform(0.45, 1), 0, 1)[..., None]
    return albedo + worn * (paint - albedo)


def _patches(place: _Ground, street: Street, gen: np.random.Generator) -> np.ndarray:
    """Repairs and trenches of another tone, relative brightness, float32 [rows, WIDTH]."""
    tone = np.ones_like(place.t)
    for _ in range(gen.integers(0, 5)):
        t, s = gen.uniform(-street.half_road, street.half_road), gen.uniform(2, 30)
        wide, long = gen.uniform(0.3, 2.2), gen.uniform(0.3, 2) * gen.choice([1, 6])
        tone[(np.abs(place.t - t) < wide / 2) & (np.abs(place.s - s) < long)] *= np.float32(gen.uniform(0.72, 1.25))
    return tone


def _markings(place: _Ground, street: Street, lane: float, gen: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Painted lines: cover float32 [rows, WIDTH] and their albedo [3]. Some roads have none."""
    paint = np.array([0.75, 0.75, 0.72] if gen.uniform() < 0.75 else [0.7, 0.5, 0.12], np.float32)
    cover = np.zeros_like(place.t)
    if gen.uniform() < 0.12:
        return cover, paint
    footprint = np.maximum(place.z / street.focal, 0.01)
    dashes = (place.s % gen.uniform(4, 9)) < gen.uniform(1.5, 4)
    number = round(street.half_road / lane)
    for line in range(-number + 1, number):
        full = gen.uniform() < 0.2
        cover = np.maximum(cover, _line(place.t - line * lane, 0.07, footprint) * (full | dashes))
    if gen.uniform() < 0.5:
        edge = street.half_road - gen.uniform(0.25, 0.5)
        cover = np.maximum(cover, _line(np.abs(place.t) - edge, 0.06, footprint))
    if gen.uniform() < 0.25:
        near = gen.uniform(7, 24)
        bars = np.clip((0.28 - np.abs((place.t % 1.1) - 0.55)) / footprint + 0.5, 0, 1)
        cover = np.maximum(cover, bars * ((place.s > near) & (place.s < near + 3)))
    elif gen.uniform() < 0.3:
        cover = np.maximum(cover, _line(place.s - gen.uniform(6, 20), 0.2, footprint * place.z / street.eye))
    return cover * (np.abs(place.t) < street.half_road - 0.1), paint


def _line(distance: np.ndarray, half: float, footprint: np.ndarray) -> np.ndarray:
    """Cover of a line of half width `half` metres at signed `distance`, where a pixel spans `footprint` metres."""
    cover = np.clip((half - np.abs(distance)) / footprint + 0.5, 0, 1)
    return cover * np.minimum(1, 2 * half / footprint)


def _paving(place: _Ground, street: Street, textures: Textures, gen: np.random.Generator) -> np.ndarray:
    """Albedo of pavements and yards with the kerb: slabs, bricks or asphalt, float32 [rows, WIDTH, 3]."""
    base = draw_asphalt(gen)
    grain = textures.piece(textures.grain, *place.t.shape, gen) * (0.3 + 0.7 * place.fade(15))
    tone = 1 + 0.08 * grain + 0.1 * place.look_up(textures.cloud, 5)
    size = gen.choice([0.0, 0.45, 0.8, 1.2])
    if size:
        joints = ((place.t % size) < 0.05) | ((place.s % (size * 1.5)) < 0.06)
        tone -= 0.35 * joints * place.fade(14)
        number = np.floor(place.t / size) * 37 + np.floor(place.s / (size * 1.5)) * 101
        tone += 0.07 * np.sin(number) * place.fade(20)
    kerb = _line(np.abs(place.t) - street.half_road - 0.1, 0.12, np.maximum(place.z / street.focal, 0.01))[..., None]
    albedo = np.maximum(tone, 0.2)[..., None] * base
    return albedo + 0.8 * kerb * (base * gen.uniform(0.5, 1.9) - albedo)


def _grass(place: _Ground, textures: Textures, gen: np.random.Generator) -> np.ndarray:
    """Albedo of grass: upright blades near, mottled further off, float32 [rows, WIDTH, 3]."""
    blades = textures.piece(textures.blades, *place.t.shape, gen) * (0.3 + 0.5 * place.fade(25))
    tufts = place.look_up(textures.cloud, 14)
    tone = np.maximum(1 + 0.42 * blades + 0.28 * tufts, 0.15)
    dry = np.clip(0.3 * place.look_up(textures.cloud, 4) + 0.3, 0, 1)[..., None]
    first, second = draw_foliage(gen), draw_foliage(gen)
    return tone[..., None] * (first + dry * (second - first))


def _shade(place: _Ground, street: Street, shadows: Shadows, sun: np.ndarray, textures: Textures) -> np.ndarray:
    """How much of the sun is kept off, float32 [rows, WIDTH], 0..1."""
    t, s = (float(sun @ street.normal(*axis)) for axis in ((1, 0), (0, 1)))
    shade = np.zeros_like(place.t)
    for wall, first, last, height in shadows.walls[1 if t > 0 else -1]:
        distance = (wall - place.t) / np.float32(t if abs(t) > 1e-3 else 1e-3)
        along = place.s + distance * np.float32(s)
        shade[(distance > 0) & (along > first) & (along < last) & (distance * np.float32(sun[1]) < height)] = 1
    leaves = _outlines(shadows.dappled, street)[place.first :]
    if leaves.any():
        shade = np.maximum(shade, leaves * np.clip(0.6 + 0.5 * place.look_up(textures.cloud, 16), 0, 1))
    return cv2.blur(np.maximum(shade, _outlines(shadows.solid, street)[place.first :]), (3, 3))


def _outlines(outlines: list[np.ndarray], street: Street) -> np.ndarray:
    """Mask of outlines on the ground, float32 [HEIGHT, WIDTH]."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for outline in outlines:
        camera = street.camera(outline[:, 0], outline[:, 1], 0.0)
        if (camera[:, 2] > 1).all():
            cv2.fillPoly(mask, [np.rint(street.project(camera)).astype(np.int32)], 1)
    return mask.astype(np.float32)

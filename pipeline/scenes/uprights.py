"""Thin and small things that face the camera: lamp posts, signs, traffic lights, masts, bollards; and people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vice.pipeline.scenes.canvas import WIDTH, Canvas, Label, Patch
from vice.pipeline.scenes.street import Street
from vice.pipeline.scenes.textures import draw_paint, from_hsv

POLE_KINDS = ("lamp", "sign", "lights", "mast", "bollard")


class _Figure:
    """A flat drawing in metres (x right, y up from its foot) that faces the camera."""

    def __init__(self, canvas: Canvas, street: Street, t: float, s: float, extent: tuple[float, float, float]):
        self.canvas = canvas
        self.depth = street.depth(t, s)
        self.scale = street.focal / self.depth
        self.foot = street.pixels(t, s, 0.0)
        left, right, top = extent
        self.patch = Patch(self.foot + np.array([[left, 0], [right, -top]]) * self.scale, fine=4)
        light = canvas.light
        # Without a form of its own it takes the light of a face turned a little to either side.
        self.bright, self.dark = (light.shade(_turned(side)) for side in _sides(light.sun_direction))

    def polygon(self, points: np.ndarray, albedo: np.ndarray) -> None:
        """Fill an outline, float [n, 2] in metres."""
        self.patch.polygon(
            self.foot + np.asarray(points) * (self.scale, -self.scale), albedo * (0.5 * self.bright + 0.5 * self.dark)
        )

    def lit(self, points: np.ndarray, albedo: np.ndarray, *, bright: bool) -> None:
        """Fill an outline in the light of the side towards the sun or away from it."""
        radiance = albedo * (self.bright if bright else self.dark)
        self.patch.polygon(self.foot + np.asarray(points) * (self.scale, -self.scale), radiance)

    def paint(self, label: Label) -> None:
        self.patch.paint_on(self.canvas, self.depth, label)


def _turned(side: float) -> np.ndarray:
    return np.array([side * 0.8, 0.0, -0.6])


def _sides(sun: np.ndarray) -> tuple[float, float]:
    return (1.0, -1.0) if sun[0] > 0 else (-1.0, 1.0)


def _in_sight(street: Street, t: float, s: float, nearest: float) -> bool:
    """Whether a figure at (t, s) stands beyond `nearest` metres and within the picture's columns."""
    depth = street.depth(t, s)
    if depth < nearest:
        return False
    margin = 2.2 * street.focal / depth
    return bool(-margin < street.pixels(t, s, 0.0)[0] < WIDTH + margin)


def _box(left: float, right: float, low: float, high: float) -> np.ndarray:
    return np.array([[left, low], [right, low], [right, high], [left, high]])


def _round(x: float, y: float, radius: float, *, flat: float = 1.0, corners: int = 12, turn: float = 0.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    return np.stack([x + radius * np.cos(angle), y + flat * radius * np.sin(angle)], axis=1)


@dataclass(frozen=True)
class Pole:
    """A pole with what it carries, standing at (t, s)."""

    t: float
    s: float
    kind: str
    height: float
    towards: float
    """-1 or 1: to which side an arm reaches."""

    def paint(self, canvas: Canvas, street: Street, gen: np.random.Generator) -> None:
        """Paint the shaft, then its head."""
        if not _in_sight(street, self.t, self.s, 2.5):
            return
        figure = _Figure(canvas, street, self.t, self.s, (-2.2, 2.2, self.height + 0.6))
        metal = (
            draw_paint(gen)
            if gen.uniform() < 0.35
            else np.full(3, np.exp(gen.uniform(np.log(0.02), np.log(0.6))), np.float32)
        )
        if self.kind == "mast":
            metal = from_hsv(gen.normal(28, 8), gen.uniform(0.1, 0.45), gen.uniform(0.2, 0.6))
        # Two to five pixels wide, as far as the distance allows.
        half = float(np.clip(gen.uniform(0.06, 0.11), 1.05 / figure.scale, 2.5 / figure.scale))
        bright = canvas.light.sun_direction[0] > 0
        figure.lit(_box(-half, 0, 0, self.height), metal, bright=not bright)
        figure.lit(_box(0, half, 0, self.height), metal, bright=bright)
        getattr(self, f"_paint_{self.kind}")(figure, metal, half, gen)
        figure.paint(Label.POLE)

    def _paint_lamp(self, figure: _Figure, metal: np.ndarray, half: float, gen: np.random.Generator) -> None:
        reach, top = gen.uniform(0.5, 1.9) * self.towards, self.height
        thin = max(0.05, 0.55 / figure.scale)
        figure.polygon([[0, top - 0.1 - thin], [0, top], [reach, top + 0.35], [reach, top + 0.35 - 2 * thin]], metal)
        inner, outer = sorted((reach - 0.15 * self.towards, reach + 0.55 * self.towards))
        inner, outer = max(inner, -2.1), min(outer, 2.1)
        figure.polygon(_box(inner, outer, top + 0.2, top + 0.2 + max(0.16, 1.6 / figure.scale)), metal * 0.8)
        figure.polygon(_box(-1.7 * half, 1.7 * half, 0, 0.9), metal * 0.9)

    def _paint_sign(self, figure: _Figure, metal: np.ndarray, half: float, gen: np.random.Generator) -> None:
        shape, top = gen.integers(0, 4), self.height - 0.35
        size = gen.uniform(0.28, 0.5)
        rim, face = draw_paint(gen), np.full(3, gen.uniform(0.5, 0.9)) if gen.uniform() < 0.6 else draw_paint(gen)
        outlines = {
            0: lambda r: _round(0, top, r),
            1: lambda r: _round(0, top, 1.2 * r, corners=3, turn=np.pi / 2),
            2: lambda r: _box(-r, r, top - r, top + r),
            3: lambda r: _box(-0.75 * r, 0.75 * r, top - 1.5 * r, top + r),
        }
        figure.polygon(outlines[int(shape)](size), rim)
        figure.polygon(outlines[int(shape)](size * 0.74), face)
        figure.polygon(_box(-size * 0.4, size * 0.4, top - size * 0.12, top + size * 0.12), rim * 0.8)

    def _paint_lights(self, figure: _Figure, metal: np.ndarray, half: float, gen: np.random.Generator) -> None:
        top, on = self.height, gen.integers(0, 3)
        figure.polygon(_box(-0.24, 0.24, top - 1.0, top), np.full(3, 0.02))
        for i, colour in enumerate(([1.6, 0.1, 0.06], [1.5, 0.7, 0.05], [0.1, 1.4, 0.6])):
            figure.polygon(_round(0, top - 0.2 - 0.3 * i, 0.12), np.array(colour) * (1.0 if i == on else 0.12))

    def _paint_mast(self, figure: _Figure, metal: np.ndarray, half: float, gen: np.random.Generator) -> None:
        for i in range(gen.integers(1, 3)):
            low = self.height - 0.5 - 0.8 * i
            figure.polygon(_box(-1.1, 1.1, low, low + max(0.14, 1.3 / figure.scale)), metal * 0.9)
            for x in (-0.95, -0.45, 0.45, 0.95):
                figure.polygon(_box(x - 0.06, x + 0.06, low, low + 0.36), metal * 1.4)

    def _paint_bollard(self, figure: _Figure, metal: np.ndarray, half: float, gen: np.random.Generator) -> None:
        figure.polygon(
            _box(-1.3 * half, 1.3 * half, self.height * 0.72, self.height * 0.86), np.full(3, gen.uniform(0.3, 0.9))
        )
        figure.polygon(_round(0, self.height, 1.3 * half), metal)


@dataclass(frozen=True)
class Person:
    """Somebody who stands or walks at (t, s)."""

    t: float
    s: float
    height: float

    def paint(self, canvas: Canvas, street: Street, gen: np.random.Generator) -> None:
        """Paint legs, body, arms, head, and perhaps a bag."""
        if not _in_sight(street, self.t, self.s, 3.0):
            return
        figure = _Figure(canvas, street, self.t, self.s, (-0.65, 0.65, self.height + 0.05))
        unit = self.height / 8
        top, trousers, skin = (
            draw_paint(gen),
            draw_paint(gen),
            from_hsv(gen.normal(24, 6), gen.uniform(0.2, 0.55), gen.uniform(0.25, 0.9)),
        )
        stride, wide = gen.uniform(-1, 1) * 1.1 * unit, gen.uniform(0.9, 1.35) * unit
        self._paint_legs(figure, unit, stride, trousers, gen)
        if gen.uniform() < 0.35:
            side = gen.choice([-1, 1])
            figure.polygon(_round(side * 1.5 * wide, 3.6 * unit, 0.8 * unit, corners=6), draw_paint(gen))
        hem = gen.uniform(2.6, 3.9) * unit
        bright = canvas.light.sun_direction[0] > 0
        outline = np.array(
            [[0, hem], [wide * 1.05, hem], [wide * 0.85, 5.2 * unit], [wide * 1.15, 6.5 * unit], [0, 6.8 * unit]]
        )
        figure.lit(outline, top, bright=bright)
        figure.lit(outline * (-1, 1), top, bright=not bright)
        swing = -stride * 0.6
        for side in (-1, 1):
            shoulder, hand = side * wide * 1.15, side * wide * 1.25 + swing * side
            arm = [
                [shoulder, 6.5 * unit],
                [shoulder - side * 0.45 * unit, 6.3 * unit],
                [hand - side * 0.3 * unit, 3.7 * unit],
                [hand, 3.7 * unit],
            ]
            figure.polygon(arm, top * 0.75)
            figure.polygon(_round(hand - side * 0.15 * unit, 3.6 * unit, 0.25 * unit), skin)
        figure.polygon(_box(-0.25 * unit, 0.25 * unit, 6.5 * unit, 7 * unit), skin * 0.7)
        figure.polygon(
            _round(0, 7.4 * unit, 0.62 * unit), from_hsv(gen.normal(28, 8), gen.uniform(0, 0.5), gen.uniform(0.05, 0.7))
        )
        if gen.uniform() < 0.65:
            figure.polygon(_round(0.1 * unit * gen.choice([-1, 1]), 7.25 * unit, 0.46 * unit), skin)
        figure.paint(Label.PERSON)

    def _paint_legs(
        self, figure: _Figure, unit: float, stride: float, trousers: np.ndarray, gen: np.random.Generator
    ) -> None:
        shoe = np.full(3, gen.uniform(0.01, 0.3))
        for side, tone in ((-1, 0.7), (1, 1.0)):
            foot = side * (0.4 * unit + stride)
            leg = [
                [side * 0.95 * unit, 4 * unit],
                [-0.05 * side * unit, 4 * unit],
                [foot - 0.3 * unit, 0.2 * unit],
                [foot + 0.3 * unit, 0.2 * unit],
            ]
            figure.polygon(leg, trousers * tone)
            figure.polygon(_box(foot - 0.35 * unit, foot + 0.5 * unit, 0, 0.3 * unit), shoe)

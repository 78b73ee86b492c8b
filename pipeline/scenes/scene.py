"""One scene, start to end: light, street, layout, painting far to near, camera.

A pure function of (seed, split, number). Equal bytes are promised for the same versions of NumPy and OpenCV on the same
kind of processor: their vectorised arithmetic may differ in a last bit between processors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vice.pipeline.scenes.canvas import Canvas
from vice.pipeline.scenes.cars import Car
from vice.pipeline.scenes.ground import paint_ground
from vice.pipeline.scenes.layout import Layout, cast_shadows, draw_layout
from vice.pipeline.scenes.light import develop, draw_light
from vice.pipeline.scenes.sky import paint_backdrop, sky_radiance
from vice.pipeline.scenes.street import Street, draw_street
from vice.pipeline.scenes.textures import Textures, draw_textures
from vice.pipeline.scenes.uprights import Person, Pole

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Scene:
    """A labelled picture."""

    picture: np.ndarray
    """uint8 [240, 320, 3], RGB."""
    labels: np.ndarray
    """uint8 [240, 320], classes as in `canvas.Label`."""


def make_scene(seed: int, split: str, number: int) -> Scene:
    """Make one scene; equal arguments give equal bytes, whatever was made before.

    Args:
        seed: of the whole set, at least 0.
        split: `train` or `val`.
        number: of the scene in its split, at least 0.

    Raises:
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"no split '{split}' (choices: {', '.join(SPLITS)})")
    gen = np.random.Generator(np.random.Philox(key=np.array([seed, SPLITS.index(split) << 32 | number], np.uint64)))
    light, street = draw_light(gen), draw_street(gen)
    textures = draw_textures(gen, light.sun_direction)
    layout = draw_layout(street, gen)
    canvas = Canvas.of_sky(sky_radiance(street, light, textures, gen), light)
    paint_backdrop(canvas, street, textures, gen)
    shadows = cast_shadows(layout, street, light.sun_direction)
    paint_ground(canvas, street, layout.grass, shadows, textures, gen)
    _paint_layout(canvas, street, layout, textures, gen)
    return Scene(develop(canvas.radiance, light, gen), canvas.labels)


def _paint_layout(canvas: Canvas, street: Street, layout: Layout, textures: Textures, gen: np.random.Generator) -> None:
    """Paint what stands, far to near; the canvas's depth settles what a long wall hides."""
    for building in sorted(layout.buildings, key=lambda it: -it.near):
        building.paint(canvas, street, textures, gen)
    things = [*layout.plants, *layout.hedges, *layout.cars, *layout.poles, *layout.people]
    for thing in sorted(things, key=lambda it: -street.depth(it.t, it.s)):
        if isinstance(thing, Car | Pole | Person):
            thing.paint(canvas, street, gen)
        else:
            thing.paint(canvas, street, textures, gen)

"""What stands where: lots along both sides of a street, cars, poles and people between them.

A scene draws how built-up, how green and how busy it is, so that the same places hold different classes from scene to
scene. Nothing is painted here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vice.pipeline.scenes.buildings import Building
from vice.pipeline.scenes.cars import PROFILES, Car
from vice.pipeline.scenes.ground import Shadows
from vice.pipeline.scenes.plants import Hedge, Plant
from vice.pipeline.scenes.street import Street
from vice.pipeline.scenes.textures import draw_foliage
from vice.pipeline.scenes.uprights import POLE_KINDS, Person, Pole


@dataclass
class Layout:
    """Everything that stands on the ground of one scene."""

    buildings: list[Building] = field(default_factory=list)
    plants: list[Plant] = field(default_factory=list)
    hedges: list[Hedge] = field(default_factory=list)
    cars: list[Car] = field(default_factory=list)
    poles: list[Pole] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    grass: dict[int, bool] = field(default_factory=dict)
    """By side (-1, 1): whether grass lies beyond the pavement."""


def draw_layout(street: Street, gen: np.random.Generator) -> Layout:
    """Draw one scene's layout."""
    layout = Layout()
    for side in (-1, 1):
        built, setback = gen.beta(1.0, 0.9), gen.choice([0.0, gen.uniform(2, 10)], p=[0.45, 0.55])
        layout.grass[side] = setback > 0 and gen.uniform() < 0.75
        _fill_side(layout, street, side, built, setback, gen)
        _line_pavement(layout, street, side, gen)
    if gen.uniform() < 0.7:
        _close_street(layout, gen)
    _add_traffic(layout, street, gen)
    _add_people(layout, street, gen)
    return layout


def _fill_side(
    layout: Layout, street: Street, side: int, built: float, setback: float, gen: np.random.Generator
) -> None:
    """Fill one side with buildings, groups of trees and gaps."""
    edge = street.half_road + street.pavement + setback
    tall = np.exp(gen.uniform(np.log(3.5), np.log(22)))
    s = gen.uniform(-8, 0)
    while s < 85:
        if gen.uniform() < built:
            length = gen.uniform(6, 22)
            inner = side * (edge + gen.choice([0.0, gen.uniform(0, 2.5)]))
            height = float(np.clip(tall * gen.uniform(0.7, 1.4), 3, 28))
            roof = gen.uniform(1.5, 4) if height < 10 and gen.uniform() < 0.7 else 0.0
            layout.buildings.append(Building(inner, inner + side * gen.uniform(7, 14), s, s + length, height, roof))
            gap = gen.choice([0.0, gen.uniform(1, 6)])
        else:
            length = gen.uniform(5, 16)
            gap = _plant_lot(layout, side, edge, s, length, gen)
        s += length + gap
    if setback > 0 and gen.uniform() < 0.6:
        _plant_hedge(layout, side * (street.half_road + street.pavement + 0.5), gen)


def _plant_lot(layout: Layout, side: int, edge: float, start: float, length: float, gen: np.random.Generator) -> float:
    """Plant trees and bushes on a lot and return the gap after it; some lots stay empty."""
    if gen.uniform() < 0.12:
        return 0.0
    for _ in range(gen.integers(1, 4)):
        height = gen.uniform(3, 11)
        s, t = start + gen.uniform(0, 1) * length, side * (edge + gen.uniform(0.5, 7))
        trunk = height * gen.uniform(0.08, 0.35)
        layout.plants.append(Plant(t, s, height, height * gen.uniform(0.5, 1.0), trunk, _foliage(gen)))
    for _ in range(gen.integers(0, 4)):
        height = gen.uniform(0.7, 2.6)
        s, t = start + gen.uniform(0, 1) * length, side * (edge + gen.uniform(0.2, 4))
        layout.plants.append(Plant(t, s, height, height * gen.uniform(1.0, 2.4), 0.0, _foliage(gen)))
    return 0.0


def _plant_hedge(layout: Layout, t: float, gen: np.random.Generator) -> None:
    """Plant a hedge along the pavement."""
    start, foliage = gen.uniform(-4, 8), _foliage(gen)
    layout.hedges.append(Hedge(t, start, start + gen.uniform(6, 40), gen.uniform(0.7, 2.0), foliage))


def _line_pavement(layout: Layout, street: Street, side: int, gen: np.random.Generator) -> None:
    """Set parked cars, street trees and poles along one kerb."""
    kerb = side * street.half_road
    if gen.uniform() < 0.55:
        s = gen.uniform(3, 16)
        while s < 50:
            if gen.uniform() < 0.75:
                heading = gen.choice([0.0, np.pi]) + gen.normal(0, 0.03)
                layout.cars.append(Car(kerb - side * gen.uniform(0.95, 1.2), s, heading, _kind(gen)))
            s += gen.uniform(5.4, 8)
    if gen.uniform() < 0.45 and street.pavement > 1.6:
        spacing = gen.uniform(6, 14)
        height, trunk, foliage = gen.uniform(4, 9), gen.uniform(1.8, 2.8), _foliage(gen)
        for s in np.arange(gen.uniform(4, 14), 60, spacing):
            tall = height * gen.uniform(0.85, 1.15)
            layout.plants.append(Plant(kerb + side * 0.7, float(s), tall, tall * gen.uniform(0.4, 0.7), trunk, foliage))
    s = gen.uniform(4, 14)
    while s < 42:
        kind = str(gen.choice(POLE_KINDS, p=[0.34, 0.28, 0.12, 0.12, 0.14]))
        height = {"lamp": gen.uniform(5, 8.5), "sign": gen.uniform(2.2, 3.2), "lights": gen.uniform(2.9, 3.8)}.get(kind)
        height = height or (gen.uniform(6.5, 8.5) if kind == "mast" else gen.uniform(0.9, 1.2))
        layout.poles.append(Pole(kerb + side * gen.uniform(0.3, 0.9), s, kind, height, -side))
        s += gen.uniform(4, 15)


def _close_street(layout: Layout, gen: np.random.Generator) -> None:
    """Close the view with buildings or trees across the street's end."""
    end = float(np.exp(gen.uniform(np.log(22), np.log(85))))
    t = gen.uniform(-38, -28)
    green = gen.uniform() < 0.4
    while t < 34:
        width = gen.uniform(7, 18)
        if green or gen.uniform() < 0.2:
            height = gen.uniform(4, 12)
            layout.plants.append(
                Plant(t + width / 2, end + gen.uniform(0, 4), height, width * 1.2, height * 0.1, _foliage(gen))
            )
        else:
            height = gen.uniform(4, 18)
            roof = gen.uniform(1.5, 3.5) if gen.uniform() < 0.5 else 0.0
            layout.buildings.append(Building(t, t + width, end, end + 10, height, roof))
        t += width + gen.choice([0.0, gen.uniform(0, 3)])


def _add_traffic(layout: Layout, street: Street, gen: np.random.Generator) -> None:
    """Put moving cars into the lanes, and now and then one across the street."""
    for _ in range(gen.integers(0, 5)):
        s = gen.uniform(6, 45)
        side = gen.choice([-1, 1])
        heading = (0.0 if side > 0 else np.pi) + gen.normal(0, 0.06)
        t = side * street.half_road * gen.uniform(0.25, 0.6)
        if all(np.hypot((car.t - t) * 2.2, car.s - s) > 5.5 for car in layout.cars):
            layout.cars.append(Car(t, s, heading, _kind(gen)))
    if gen.uniform() < 0.3:
        heading, s = gen.choice([-1, 1]) * np.pi / 2 + gen.normal(0, 0.35), gen.uniform(7, 22)
        t = gen.uniform(-1, 1) * (street.half_road + 1)
        if all(np.hypot(car.t - t, car.s - s) > 4.5 for car in layout.cars):
            layout.cars.append(Car(t, s, heading, _kind(gen)))


def _add_people(layout: Layout, street: Street, gen: np.random.Generator) -> None:
    """Put people on the pavements and some on the road, alone or side by side."""
    for _ in range(gen.integers(2, 7)):
        s = float(np.exp(gen.uniform(np.log(5.5), np.log(26))))
        side = gen.choice([-1, 1])
        t = side * (street.half_road + gen.uniform(0.3, max(street.pavement - 0.3, 0.5)))
        if gen.uniform() < 0.3:
            t = gen.uniform(-1, 1) * street.half_road
        for i in range(gen.choice([1, 1, 2])):
            place = t + 0.7 * i
            if all(abs(car.t - place) > 1.3 or abs(car.s - s) > 2.8 for car in layout.cars):
                layout.people.append(Person(place, s + 0.2 * i, gen.uniform(1.5, 1.92)))


def _foliage(gen: np.random.Generator) -> np.ndarray:
    """Albedo of one plant's leaves, float32 [2, 3]: two tones, near each other for most plants."""
    first, second = draw_foliage(gen), draw_foliage(gen)
    return np.stack([first, first + np.float32(gen.uniform(0, 0.7)) * (second - first)])


def _kind(gen: np.random.Generator) -> str:
    return str(gen.choice(list(PROFILES), p=[0.38, 0.28, 0.2, 0.14]))


def cast_shadows(layout: Layout, street: Street, sun: np.ndarray) -> Shadows:
    """What the layout keeps the sun off.

    Args:
        layout: what stands.
        street: for the street's direction.
        sun: float [3], unit camera direction towards the sun.
    """
    shadows = Shadows()
    for building in layout.buildings:
        side = 1 if building.inner > 0 else -1
        shadows.walls[side].append((building.inner, building.near, building.far, building.height))
    away = -np.array([sun @ street.normal(1, 0), sun @ street.normal(0, 1)]) / max(sun[1], 0.2)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for plant in layout.plants:
        middle = np.array([plant.t, plant.s]) + away * (plant.height + plant.trunk) / 2
        shadows.dappled.append(middle + ring * plant.width * 0.55)
    for car in layout.cars:
        shadows.solid += [car.footprint(0.12, (0, 0)), car.footprint(0.0, tuple(away * 0.7))]
    for person in layout.people:
        foot, head = np.array([person.t, person.s]), np.array([person.t, person.s]) + away * person.height
        thick = 0.22 * np.array([-away[1], away[0]]) / max(np.linalg.norm(away), 1e-3)
        shadows.solid += [np.stack([foot - thick, foot + thick, head + thick, head - thick]), foot + 0.3 * ring]
    for pole in layout.poles:
        foot, head = np.array([pole.t, pole.s]), np.array([pole.t, pole.s]) + away * pole.height
        thick = 0.08 * np.array([-away[1], away[0]]) / max(np.linalg.norm(away), 1e-3)
        shadows.solid.append(np.stack([foot - thick, foot + thick, head + thick, head - thick]))
    return shadows

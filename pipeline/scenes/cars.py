"""Cars: a side profile given width, seen in perspective from any side, with windows, wheels, lamps and plates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vice.pipeline.scenes.canvas import HEIGHT, WIDTH, Canvas, Label, Patch
from vice.pipeline.scenes.street import Street
from vice.pipeline.scenes.textures import draw_paint

# Side profiles from the foot of the rear round the top to the foot of the front: (metres from the rear, height), and
# what each stretch between two points is. Rough outlines of everyday cars.
PROFILES: dict[str, tuple[list[tuple[float, float]], list[str]]] = {
    "hatchback": (
        [
            (0.05, 0.28),
            (0.0, 0.78),
            (0.12, 0.95),
            (0.55, 1.44),
            (2.1, 1.47),
            (2.95, 0.98),
            (3.85, 0.8),
            (3.98, 0.6),
            (3.95, 0.28),
        ],
        ["rear", "rear", "glass", "body", "glass", "body", "front", "front"],
    ),
    "saloon": (
        [
            (0.05, 0.28),
            (0.0, 0.8),
            (0.1, 0.97),
            (0.75, 1.0),
            (1.35, 1.41),
            (2.5, 1.43),
            (3.3, 0.98),
            (4.35, 0.8),
            (4.5, 0.58),
            (4.47, 0.28),
        ],
        ["rear", "rear", "body", "glass", "body", "glass", "body", "front", "front"],
    ),
    "tall": (
        [
            (0.05, 0.38),
            (0.0, 1.0),
            (0.1, 1.15),
            (0.35, 1.72),
            (2.6, 1.75),
            (3.3, 1.2),
            (4.2, 1.08),
            (4.4, 0.8),
            (4.38, 0.38),
        ],
        ["rear", "rear", "glass", "body", "glass", "body", "front", "front"],
    ),
    "van": (
        [
            (0.05, 0.36),
            (0.0, 1.05),
            (0.06, 1.25),
            (0.15, 2.05),
            (3.5, 2.1),
            (4.3, 1.3),
            (4.95, 1.1),
            (5.1, 0.7),
            (5.05, 0.36),
        ],
        ["rear", "rear", "glass", "body", "glass", "body", "front", "front"],
    ),
}


@dataclass(frozen=True)
class Car:
    """A car whose middle stands at (t, s); `heading` in radians from along the street, clockwise."""

    t: float
    s: float
    heading: float
    kind: str

    @property
    def length(self) -> float:
        """Metres."""
        return max(point[0] for point in PROFILES[self.kind][0])

    def footprint(self, margin: float, shift: tuple[float, float]) -> np.ndarray:
        """Outline on the ground, float [4, 2] (t, s), grown by `margin` metres and moved by `shift`."""
        half, reach = 0.85 + margin, self.length / 2 + margin
        across, along = np.array([-half, half, half, -half]), np.array([-reach, -reach, reach, reach])
        return self._street(across, along) + np.array(shift)

    def paint(self, canvas: Canvas, street: Street, gen: np.random.Generator) -> None:
        """Paint the faces that look at the camera, then what is on them."""
        depth = street.depth(self.t, self.s)
        column, row = street.pixels(self.t, self.s, 0.7)
        margin = 3 * street.focal / max(depth, 1)
        if (
            depth < self.length / 2 + 2.0
            or not -margin < column < WIDTH + margin
            or not -margin < row < HEIGHT + margin
        ):
            return
        _Drawing(self, canvas, street, gen).paint()

    def _street(self, across: np.ndarray, along: np.ndarray) -> np.ndarray:
        cos, sin = np.cos(self.heading), np.sin(self.heading)
        return np.stack([self.t + across * cos + along * sin, self.s + along * cos - across * sin], axis=-1)

    def axes(self, street: Street) -> np.ndarray:
        """Camera coordinates of its middle on the ground, and of a metre across and along, float [3, 3]."""
        place = self._street(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
        points = street.camera(place[:, 0], place[:, 1], np.zeros(3))
        points[1:] -= points[0]
        return points


class _Drawing:
    """One car on its way to the canvas."""

    def __init__(self, car: Car, canvas: Canvas, street: Street, gen: np.random.Generator):
        self.car, self.canvas, self.street, self.gen = car, canvas, street, gen
        self.light, self.axes = canvas.light, car.axes(street)
        points, self.parts = PROFILES[car.kind]
        self.profile = np.array(points)
        self.panes = [i for i, part in enumerate(self.parts) if part == "glass"]
        self.belt = max(self.profile[self.panes[0], 1], self.profile[self.panes[1] + 1, 1])
        self.roof = self.profile[:, 1].max()
        self.body = draw_paint(gen)
        self.glass = np.array([0.9, 1.0, 1.08], np.float32) * np.float32(gen.uniform(0.02, 0.3))
        self.trim = np.full(3, gen.uniform(0.01, 0.06), np.float32)
        self.mirror = canvas.light.sky_horizon * np.float32(0.10 * min(canvas.light.sky_level, 2))

    def paint(self) -> None:
        corners = self._points(
            np.array([-1, 1, -1, 1] * 2), np.repeat([0, self.car.length], 4), np.tile([0, 0, self.roof, self.roof], 2)
        )
        pixels = self.street.project(corners)
        self.patch = Patch(pixels, fine=3 if np.ptp(pixels[:, 0]) < 90 else 2)
        self._paint_underside()
        self._paint_strips()
        for side in (-1, 1):
            if self._side_seen(side):
                self._paint_side(side)
        blotches = 1 + self.gen.standard_normal((6, 6), np.float32) * np.float32(0.07)
        self.patch.paint_on(self.canvas, float(corners[:, 2].mean()), Label.CAR, blotches=blotches)

    def _points(self, across: np.ndarray, along: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Camera coordinates of car coordinates; `across` -1..1 is taken from side to side at that height."""
        half, lean = (0.97, 0.06) if self.car.kind == "van" else (0.86, 0.2)
        up = np.asarray(up, np.float64)
        above = np.minimum(np.maximum((up - self.belt) / (self.roof - self.belt), 0), 1)
        aside, ahead = across * half * (1 - lean * above), along - self.car.length / 2
        points = self.axes[0] + aside[..., None] * self.axes[1] + ahead[..., None] * self.axes[2]
        points[..., 1] += up
        return points

    def _polygon(self, points: np.ndarray, radiance: np.ndarray) -> None:
        self.patch.polygon(self.street.project(points), radiance)

    def _paint_strips(self) -> None:
        """Paint the stretches of the profile, taken across the car, that look at the camera, far to near."""
        first, second = self.profile[:-1], self.profile[1:]
        along = np.stack([first[:, 0], first[:, 0], second[:, 0], second[:, 0]], axis=1)
        up = np.stack([first[:, 1], first[:, 1], second[:, 1], second[:, 1]], axis=1)
        corners = self._points(np.array([-1, 1, 1, -1]), along, up)
        normals = np.cross(corners[:, 3] - corners[:, 0], corners[:, 1] - corners[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        middles = corners.mean(axis=1)
        for i in np.argsort(-middles[:, 2]):
            if normals[i] @ middles[i] < 0:
                self._polygon(corners[i], self._shade(self.body, normals[i]))
                self._paint_strip(int(i), normals[i])

    def _shade(self, albedo: np.ndarray, normal: np.ndarray) -> np.ndarray:
        return albedo * self.light.shade(normal) + self.mirror * np.float32(0.3 + max(normal[1], 0.0))

    def _paint_underside(self) -> None:
        dark = self.trim * 0.5 * self.light.ambient
        rear, front = 0.2, self.car.length - 0.2
        up = np.array([0.0, 0.0, 0.4, 0.4])
        for side in (-0.9, 0.9):
            self._polygon(self._points(np.full(4, side), np.array([rear, front, front, rear]), up), dark)
        for end in (rear, front):
            self._polygon(self._points(np.array([-0.9, 0.9, 0.9, -0.9]), np.full(4, end), up), dark)

    def _paint_strip(self, i: int, normal: np.ndarray) -> None:
        """Paint what belongs on stretch `i`: glass, bumper and plate, lamps."""
        part = self.parts[i]
        if part == "glass":
            self._polygon(self._between(i, (-0.86, 0.86), (0.08, 0.92)), self._shade(self.glass, normal) + self.mirror)
            self._polygon(self._between(i, (-0.8, 0.2), (0.3, 0.55)), self._shade(self.glass * 0.35, normal))
        first = i in (0, len(self.parts) - 1)
        if part in ("rear", "front") and first:
            low, high = (0.0, 0.42) if part == "rear" else (0.58, 1.0)
            self._polygon(self._between(i, (-1, 1), (low, high)), self.trim * 2 * self.light.shade(normal))
            plate = np.array([0.75, 0.6, 0.1] if self.gen.uniform() < 0.3 else [0.75, 0.75, 0.75])
            self._polygon(self._between(i, (-0.28, 0.28), (0.5, 0.72)), plate * self.light.shade(normal))
        elif part in ("rear", "front"):
            self._paint_lamps(i, part, normal)

    def _paint_lamps(self, i: int, part: str, normal: np.ndarray) -> None:
        glow = float(np.exp(self.gen.uniform(np.log(0.3), np.log(3))))
        colour = np.array([0.55, 0.03, 0.03] if part == "rear" else [0.85, 0.85, 0.8]) * glow
        for side in (-1, 1):
            self._polygon(
                self._between(i, (0.66 * side, 0.97 * side), (0.05, 0.95)), colour * self.light.ambient + 0.02
            )
        if part == "front":
            self._polygon(self._between(i, (-0.5, 0.5), (0.1, 0.7)), self.trim * self.light.shade(normal))

    def _between(self, i: int, across: tuple[float, float], share: tuple[float, float]) -> np.ndarray:
        """Corners of a part of stretch `i`: from-to `across` the car (-1..1) and in `share` of its length (0..1)."""
        start, step = self.profile[i], self.profile[i + 1] - self.profile[i]
        low, high = start + share[0] * step, start + share[1] * step
        left, right = across
        return self._points(
            np.array([left, right, right, left]),
            np.array([low[0], low[0], high[0], high[0]]),
            np.array([low[1], low[1], high[1], high[1]]),
        )

    def _side_seen(self, side: int) -> bool:
        middle = self._points(np.array([0.0, side]), np.full(2, self.car.length / 2), np.full(2, 0.6))
        return float((middle[1] - middle[0]) @ middle[1]) < 0

    def _paint_side(self, side: int) -> None:
        """Paint one flank: body, windows, seams, wheels."""
        middle = self._points(np.array([0.0, side]), np.full(2, self.car.length / 2), np.full(2, 0.6))
        normal = (middle[1] - middle[0]) / np.linalg.norm(middle[1] - middle[0])
        body = self._shade(self.body, normal)
        self._polygon(self._flank(side, self.profile), body)
        lower = np.array([[0.05, 0.28], [0.02, 0.5], [self.car.length - 0.02, 0.5], [self.car.length - 0.05, 0.28]])
        self._polygon(self._flank(side, lower), body * 0.6)
        glass = self._shade(self.glass, normal) + self.mirror * 0.5
        for window in self._windows():
            self._polygon(self._flank(side, window), glass)
        for along in (0.36, 0.64) if self.car.kind != "van" else (0.66,):
            place = along * self.car.length
            self._polygon(
                self._flank(
                    side, np.array([[place, 0.4], [place, self.belt], [place + 0.035, self.belt], [place + 0.035, 0.4]])
                ),
                body * 0.5,
            )
        for along in (0.19, 0.80):
            self._paint_wheel(side, along * self.car.length, normal)

    def _flank(self, side: int, outline: np.ndarray) -> np.ndarray:
        return self._points(np.full(len(outline), float(side)), outline[:, 0], outline[:, 1])

    def _windows(self) -> list[np.ndarray]:
        """Outlines of the side windows: between belt and roof, split by pillars."""
        low, high = self.belt + 0.04, self.roof - 0.10
        (low_rear, high_rear), (low_front, high_front) = (
            [self._place(i, up) for up in (low, high)] for i in self.panes
        )
        low_rear, high_rear, low_front, high_front = (
            low_rear + 0.22,
            high_rear + 0.16,
            low_front - 0.2,
            high_front - 0.1,
        )
        if self.car.kind == "van":
            low_rear = high_rear = 0.68 * self.car.length
        split = (low_rear + low_front) / 2
        outline = [[low_rear, low], [high_rear, high], [split - 0.05, high], [split - 0.05, low]]
        second = [[split + 0.05, low], [split + 0.05, high], [high_front, high], [low_front, low]]
        return [np.array(second)] if self.car.kind == "van" else [np.array(outline), np.array(second)]

    def _place(self, i: int, up: float) -> float:
        """How far from the rear stretch `i` of the profile is at height `up`."""
        (first, low), (second, high) = self.profile[i], self.profile[i + 1]
        return float(first + (second - first) * (up - low) / (high - low))

    def _paint_wheel(self, side: int, along: float, normal: np.ndarray) -> None:
        angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        hub = np.full(3, self.gen.uniform(0.1, 0.6))
        for radius, albedo in ((0.39, self.trim * 0.4), (0.32, self.trim), (0.2, hub)):
            self._polygon(self._flank(side, np.array([along, 0.32]) + radius * ring), albedo * self.light.shade(normal))

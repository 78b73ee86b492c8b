"""Geometry of a street seen by a camera on it: street coordinates to pixels, and ground pixels back to the street.

Street coordinates are metres: `t` across (right of the road's middle), `s` along it from the camera, `up` above ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vice.pipeline.scenes.canvas import HEIGHT, WIDTH

NEAREST = 1.0
"""Nothing nearer than this (metres along the axis) is projected."""

FARTHEST = 160.0
"""The ground ends here, behind the backdrop's foot."""


@dataclass(frozen=True)
class Street:
    """Camera and course of the road."""

    focal: float
    """Focal length, pixels."""
    horizon: float
    """Row of the horizon of level ground."""
    eye: float
    """Camera's height, metres."""
    yaw: float
    """Direction of the street, radians to the right of the camera's axis."""
    across: float
    """Camera's `t`."""
    bend: float
    """The road's middle moves right by `bend` · s² metres."""
    rise: float
    """Ground rises by `rise` · z² metres at depth z."""
    half_road: float
    """Half the carriageway's width."""
    pavement: float
    """Width of each pavement."""

    def camera(self, t: np.ndarray, s: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Camera coordinates (x right, y up from the eye, z away), float [..., 3], of street coordinates."""
        side = t + self.bend * s**2 - self.across
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        z = s * cos - side * sin
        points = np.empty((*np.shape(z + up), 3))
        points[..., 0] = side * cos + s * sin
        points[..., 1] = up + self.rise * z**2 - self.eye
        points[..., 2] = z
        return points

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (column, row), float [..., 2], of camera coordinates [..., 3]."""
        scale = self.focal / np.maximum(points[..., 2], NEAREST / 4)
        return np.array([WIDTH / 2, self.horizon]) + points[..., :2] * scale[..., None] * (1, -1)

    def pixels(self, t: np.ndarray, s: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Pixels, float [..., 2], of street coordinates."""
        return self.project(self.camera(t, s, up))

    def depth(self, t: float, s: float) -> float:
        """Depth in metres of a place on the ground."""
        return float(self.camera(t, s, 0.0)[2])

    def nearest_seen(self, t: float) -> float:
        """The least `s` on the line of constant `t` that is in front of the camera (bend neglected, as so near)."""
        return (NEAREST + np.sin(self.yaw) * (t - self.across)) / np.cos(self.yaw)

    def normal(self, t: float, s: float) -> np.ndarray:
        """Camera direction (unit, level) of the street direction (t, s)."""
        length = np.hypot(t, s)
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([t * cos + s * sin, 0.0, s * cos - t * sin]) / length

    def ground(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """Where pixels' rays meet the ground.

        Returns:
            The first row whose rays do, and from it downwards: depth z float32 [rows, 1], street t, s float32
            [rows, WIDTH].
        """
        slope = (np.arange(HEIGHT)[:, None] + 0.5 - self.horizon) / self.focal
        root = slope**2 + 4 * self.rise * self.eye
        steep = slope + np.sqrt(np.maximum(root, 0))
        met = (root >= 0) & (steep > 2 * self.eye / FARTHEST)
        first = int(np.argmax(met))
        z = 2 * self.eye / steep[first:]
        x = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / self.focal * z
        s = x * np.sin(self.yaw) + z * np.cos(self.yaw)
        t = x * np.cos(self.yaw) - z * np.sin(self.yaw) + self.across - self.bend * s**2
        return first, z.astype(np.float32), t.astype(np.float32), s.astype(np.float32)


def draw_street(gen: np.random.Generator) -> Street:
    """Draw a camera and the course of its road."""
    # Now and then the camera looks across the street rather than along it.
    yaw = gen.normal(0, 10) if gen.uniform() < 0.8 else gen.choice([-1, 1]) * gen.uniform(20, 42)
    half_road = gen.uniform(2.6, 6.0)
    return Street(
        focal=gen.uniform(240, 360),
        horizon=HEIGHT * gen.uniform(0.3, 0.68),
        eye=gen.uniform(1.3, 2.8),
        yaw=float(np.deg2rad(yaw)),
        across=gen.uniform(-0.6, 0.6) * half_road,
        bend=gen.normal(0, 0.0022),
        rise=gen.uniform(-0.0002, 0.0006),
        half_road=half_road,
        pavement=gen.uniform(1.0, 3.5),
    )

"""The sky and what closes the view: cloud, far hills, rows of trees and skylines at the horizon. Painted first."""

from __future__ import annotations

import cv2
import numpy as np

from vice.pipeline.scenes.canvas import HEIGHT, WIDTH, Canvas, Label
from vice.pipeline.scenes.light import Light
from vice.pipeline.scenes.street import FARTHEST, Street
from vice.pipeline.scenes.textures import TILE, Textures, draw_foliage, draw_wall


def sky_radiance(street: Street, light: Light, textures: Textures, gen: np.random.Generator) -> np.ndarray:
    """Radiance of the picture as if nothing stood in it, float32 [HEIGHT, WIDTH, 3]: gradient, glow and clouds."""
    # Half the size is fine enough for what is as soft as this.
    rows = np.float32(street.horizon + 12) - np.arange(0, HEIGHT, 2, dtype=np.float32)[:, None]
    columns = (np.arange(0, WIDTH, 2, dtype=np.float32) - WIDTH / 2)[None] / np.float32(street.focal)
    elevation = np.maximum(rows / np.float32(street.focal), 0.02) + 0 * columns
    upward = (1 - np.exp(-2.5 * elevation))[..., None]
    sky = light.sky_horizon + upward * (light.sky_zenith - light.sky_horizon)
    # Clouds lie on a level sheet: towards the horizon they crowd together.
    scale = gen.uniform(18, 45)
    x = columns / (elevation + 0.12) * scale + gen.uniform(0, TILE)
    y = 1 / (elevation + 0.12) * scale + gen.uniform(0, TILE)
    cloud = cv2.remap(textures.cloud, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    soft = gen.uniform(0.5, 1.5)
    cover = np.clip((cloud + 2.4 * light.cloudiness - 1.4) / soft, 0, 1)[..., None] * gen.uniform(0.4, 1)
    lit = np.float32(1 - 0.18 * np.clip(cloud + 1, 0, 2))[..., None] * (0.35 + 0.75 * light.sky_horizon)
    sky = sky + cover * (lit - sky)
    toward = [float(part) for part in light.sun_direction]
    if toward[2] > 0:
        away = (columns - toward[0] / toward[2]) ** 2 + (elevation - toward[1] / toward[2]) ** 2
        sky = sky + (light.sun * 0.5) * np.exp(-away / 0.15)[..., None]
    sky = cv2.resize(sky.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    return sky * np.float32(light.sky_level) * light.ambient.mean()


def paint_backdrop(canvas: Canvas, street: Street, textures: Textures, gen: np.random.Generator) -> None:
    """Paint what stands along the horizon, far to near: a hill, then trees or houses."""
    base = street.project(np.array([0.0, street.rise * FARTHEST**2 - street.eye, FARTHEST]))[1]
    if gen.uniform() < 0.5:
        _paint_ridge(canvas, base, FARTHEST * 4, gen.uniform(4, 26), 0.4, textures, gen)
    if gen.uniform() < 0.55:
        _paint_skyline(canvas, base, street, gen)
    _paint_ridge(canvas, base, FARTHEST * 0.95, gen.uniform(3, 22), gen.uniform(0.6, 1.4), textures, gen)


def _paint_ridge(
    canvas: Canvas, base: float, depth: float, height: float, rough: float, textures: Textures, gen: np.random.Generator
) -> None:
    """Paint a wooded ridge: its outline and its texture are noise; `rough` scales the outline's fine part."""
    broad = textures.piece(textures.cloud, 1, WIDTH // 4, gen)
    fine = textures.piece(textures.cloud, 1, WIDTH, gen)
    outline = cv2.resize(cv2.blur(broad, (9, 1)), (WIDTH, 1), interpolation=cv2.INTER_CUBIC) * 0.5 + fine * 0.25 * rough
    outline = np.clip(height * (1 + outline), 0, 90)
    rows = np.arange(96, dtype=np.float32)[:, None]
    cover = np.clip(outline - (90 - rows) + 0.5, 0, 1).astype(np.float32)
    leaves = cv2.resize(textures.leaves[..., 0], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    shade = textures.piece(leaves, 96, WIDTH, gen) * (0.8 + 0.3 * np.clip((90 - rows) / max(height, 4), 0, 1.4))
    radiance = shade[..., None] * (draw_foliage(gen) * canvas.light.shade(np.array([0, 0.6, -0.8])))
    canvas.paint(radiance.astype(np.float32), cover, depth, 0, int(np.ceil(base)) - 90, Label.VEGETATION)


def _paint_skyline(canvas: Canvas, base: float, street: Street, gen: np.random.Generator) -> None:
    """Paint far houses and towers side by side, with rows of dim windows."""
    size = (120, WIDTH)
    radiance, cover = np.zeros((*size, 3), np.float32), np.zeros(size, np.float32)
    depth = FARTHEST * 0.97
    column = -gen.integers(0, 20)
    facing = canvas.light.shade(street.normal(0, -1))
    while column < WIDTH:
        width = int(gen.integers(9, 34))
        height = int(np.clip(gen.gamma(3.0, 5.0), 4, 90))
        columns, rows = slice(max(column, 0), max(column + width, 0)), slice(114 - height, 120)
        wall = draw_wall(gen) * facing
        radiance[rows, columns] = wall
        radiance[114 - height + 2 : 112 : 4, columns][:, ::3] = wall * 0.45
        radiance[114 - height : 115 - height, columns] = wall * 1.3
        cover[rows, columns] = gen.uniform() < 0.8
        column += width
    canvas.paint(radiance, cover, depth, 0, int(np.ceil(base)) - 114, Label.BUILDING)

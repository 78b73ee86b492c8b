"""Textures of walls: masonry, render, panels or glass with windows in rows, shop fronts, doors, cornices.

`draw_style` fixes what the faces of one building share; `facade` draws one face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from vice.pipeline.scenes.textures import Textures, draw_paint, draw_wall, masonry


@dataclass(frozen=True)
class Style:
    """What the faces of one building share. Lengths in metres, colours are albedo [3]."""

    wall: np.ndarray
    material: str
    """`brick`, `stone`, `render`, `panel` or `glass`."""
    trim: np.ndarray
    """Frames, sills, cornice."""
    pane: np.ndarray
    """Radiance that the panes mirror, against the light on the wall."""
    storey: float
    bay: float
    """Distance of windows."""
    window: tuple[float, float]
    """Width and height of a window, as shares of bay and storey."""
    mullions: tuple[int, int]
    """Panes across and up."""
    shop: bool
    stone: tuple[float, float]
    """Height and length of a brick, block or panel."""
    sign: np.ndarray
    """Albedo of the shop's sign."""


def draw_style(gen: np.random.Generator) -> Style:
    """Draw the style of one building."""
    material = str(gen.choice(["brick", "stone", "render", "panel", "glass"], p=[0.3, 0.17, 0.3, 0.13, 0.1]))
    stone = {"brick": (0.17, 0.45), "stone": (0.42, 0.9), "panel": (1.6, 3.1)}.get(material, (0.0, 0.0))
    window = (0.9, 0.86) if material == "glass" else (gen.uniform(0.32, 0.75), gen.uniform(0.4, 0.68))
    return Style(
        wall=draw_wall(gen),
        material=material,
        trim=draw_paint(gen) if gen.uniform() < 0.4 else np.full(3, gen.uniform(0.05, 0.85), np.float32),
        pane=np.array([0.9, 1.0, 1.1], np.float32) * np.float32(np.exp(gen.uniform(np.log(0.03), np.log(0.5)))),
        storey=gen.uniform(2.7, 3.9),
        bay=gen.uniform(1.5, 3.4),
        window=window,
        mullions=(int(gen.integers(1, 4)), int(gen.integers(1, 4))),
        shop=gen.uniform() < 0.4,
        stone=stone,
        sign=draw_paint(gen),
    )


def facade(
    style: Style, width: float, height: float, scale: float, textures: Textures, gen: np.random.Generator
) -> np.ndarray:
    """Draw one face.

    Args:
        style: the building's.
        width: of the face, metres.
        height: of the face, metres.
        scale: pixels a metre; finer detail than that is left out.
        textures: the scene's.
        gen: draws what differs from window to window.

    Returns:
        Albedo, float32 [height · scale, width · scale, 3]; bright panes may exceed 1.
    """
    rows, columns = max(int(height * scale), 2), max(int(width * scale), 2)
    face = _wall(style, rows, columns, scale, textures, gen)
    storey = min(style.storey, height * 0.9)
    windows = [_window(style, storey, scale, gen) for _ in range(4)]
    for number in range(int((height - 0.3) / storey)):
        bottom = rows - int(number * storey * scale)
        if number == 0 and style.shop:
            _paint_shop(face[rows - int(storey * scale) :], style, scale, gen)
        else:
            _paint_storey(face, style, bottom, windows, scale, gen)
    if not style.shop:
        _paint_door(face, style, scale, gen)
    edge = max(int(0.35 * scale), 1)
    face[:edge] = style.trim * 0.9
    face[edge : edge + max(edge // 3, 1)] *= 0.55
    return face


def _wall(
    style: Style, rows: int, columns: int, scale: float, textures: Textures, gen: np.random.Generator
) -> np.ndarray:
    """The bare wall, float32 [rows, columns, 3]: material, stains, dirt towards the foot."""
    tone = (
        1
        + 0.07 * textures.piece(textures.grain, rows, columns, gen)
        + 0.1 * textures.piece(textures.cloud, rows, columns, gen)
    )
    if style.stone[0] * scale >= 1.5:
        course, length = (side * scale for side in style.stone)
        tone = tone * masonry(
            gen, rows, columns, course, length, 0.7 if style.material != "brick" else gen.choice([0.65, 1.3])
        )
    tone = tone * np.linspace(1.05, gen.uniform(0.75, 1), rows, dtype=np.float32)[:, None]
    return np.maximum(tone, 0.1).astype(np.float32)[..., None] * style.wall


class _Window(NamedTuple):
    """A window drawn once and put up many times."""

    drawing: np.ndarray
    """float32 [h, w, 3]."""
    below: int
    """Rows from the storey's floor up to its lower edge."""


def _window(style: Style, storey: float, scale: float, gen: np.random.Generator) -> _Window:
    """Draw a window with its frame and sill."""
    columns, rows = (
        max(int(share * side * scale), 1) for share, side in zip(style.window, (style.bay, storey), strict=True)
    )
    frame, sill = max(round(0.09 * scale), 1), max(round(0.14 * scale), 1)
    drawing = np.empty((rows + frame + 2 * sill, columns + 2 * frame, 3), np.float32)
    drawing[:] = style.trim
    drawing[rows + frame : rows + frame + sill] = style.trim * 1.15
    drawing[rows + frame + sill :] = style.wall * 0.6
    _paint_panes(drawing[frame : frame + rows, frame : frame + columns], style, gen)
    return _Window(drawing, int((1 - style.window[1]) * 0.6 * storey * scale))


def _paint_storey(
    face: np.ndarray, style: Style, bottom: int, windows: list[_Window], scale: float, gen: np.random.Generator
) -> None:
    """Put up one row of windows in place; `bottom` is the row of the storey's floor."""
    bays = max(int(face.shape[1] / (style.bay * scale)), 1)
    for bay, pick in enumerate(gen.integers(0, len(windows), bays)):
        drawing, below = windows[pick]
        left = int((bay + 0.5) * face.shape[1] / bays - drawing.shape[1] / 2)
        low, left = bottom - below, max(left, 0)
        top = max(low - drawing.shape[0], 0)
        place = face[top:low, left : left + drawing.shape[1]]
        place[:] = drawing[: place.shape[0], : place.shape[1]]


def _paint_door(face: np.ndarray, style: Style, scale: float, gen: np.random.Generator) -> None:
    """Put a door and its frame somewhere at the foot, in place."""
    wide, high, frame = int(1.1 * scale), int(2.2 * scale), max(int(0.12 * scale), 1)
    rows, columns = face.shape[:2]
    if columns <= 2 * wide or rows <= high + frame:
        return
    left = int(gen.integers(frame, columns - wide - frame))
    face[rows - high - frame :, left - frame : left + wide + frame] = style.trim
    face[rows - high :, left : left + wide] = style.sign * 0.7


def _paint_panes(glass: np.ndarray, style: Style, gen: np.random.Generator) -> None:
    """Paint glass with a slanting reflection, perhaps a curtain or a lit room, and mullions, in place."""
    rows, columns = glass.shape[:2]
    if rows < 1 or columns < 1:
        return
    slope = (
        1.35
        - np.float32(0.75 / rows) * np.arange(rows)[:, None]
        + np.float32(0.5 / columns) * np.arange(columns)
        - 0.25
    )
    glass[:] = np.float32(gen.uniform(0.6, 1.4)) * slope[..., None] * style.pane
    if gen.uniform() < 0.3:
        glass[: int(rows * gen.uniform(0.15, 0.9))] = np.float32(gen.uniform(0.15, 0.7))
    across, up = style.mullions
    if columns >= 3 * across:
        for i in range(1, across):
            glass[:, columns * i // across] = style.trim * 0.9
    if rows >= 3 * up:
        for i in range(1, up):
            glass[rows * i // up] = style.trim * 0.9


def _paint_shop(front: np.ndarray, style: Style, scale: float, gen: np.random.Generator) -> None:
    """Paint a shop front in place: sign with letters, large panes with goods behind, posts."""
    rows, columns = front.shape[:2]
    board = max(int(rows * 0.24), 1)
    front[:board] = style.sign
    ink = np.float32(0.8) if style.sign.mean() < 0.3 else np.float32(0.05)
    letter = max(int(0.3 * scale), 2)
    for left in range(letter, columns - letter, letter + 1):
        if gen.uniform() < 0.55:
            front[board // 4 : board * 3 // 4 + 1, left : left + max(letter * 2 // 3, 1)] = ink
    goods = gen.uniform(0.02, 0.5, (3, max(columns // 4, 1), 3)).astype(np.float32) * (0.4 + style.pane)
    front[board:] = cv2.resize(goods, (columns, rows - board), interpolation=cv2.INTER_LINEAR) if rows > board else 0
    post = max(int(0.15 * scale), 1)
    for left in range(0, columns, max(int(style.bay * 1.3 * scale), post + 2)):
        front[board:, left : left + post] = style.trim
    front[rows - max(int(0.45 * scale), 1) :] = style.trim * 0.6

"""Regions cut out of their pictures: the region as it is, what surrounds it pale and grey, an outline between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Integer, UInt8

MARGIN, MIN_SIDE = 0.35, 48
"""Of the square round a region: a share of the region's own size on every side, and its least side in pixels."""
QUALITY = 88
"""Of JPEG."""
_PALE, _GROUND = 0.55, 228
"""How much of what surrounds a region gives way to a light ground: dark regions and bright ones both stand out."""


def cut_out(
    picture: UInt8[np.ndarray, "h w 3"], regions: Integer[np.ndarray, "h w"], region: int, *, side: int
) -> UInt8[np.ndarray, "side side 3"]:
    """A region with some of what surrounds it, as a square of `side` pixels."""
    inside = regions == region
    top, left, width = _square(inside)
    window, mask = _window(picture, top, left, width), _window(inside.astype(np.uint8), top, left, width)
    window = cv2.resize(window, (side, side), interpolation=cv2.INTER_AREA if width > side else cv2.INTER_CUBIC)
    mask = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
    return outlined(window, mask > 0)


def outlined(picture: UInt8[np.ndarray, "h w 3"], inside: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture pale and without colour outside, with an outline that shows on light and dark."""
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    outside = ((1 - _PALE) * (0.7 * grey + 0.3 * picture) + _PALE * _GROUND).astype(np.uint8)
    result = np.where(inside[..., None], picture, outside)
    mask = inside.astype(np.uint8)
    ring = cv2.dilate(mask, np.ones((3, 3), np.uint8)) - mask
    wider = cv2.dilate(mask, np.ones((5, 5), np.uint8)) - mask - ring
    result[wider > 0] = (0.45 * result[wider > 0]).astype(np.uint8)
    result[ring > 0] = 255
    return result


def _square(inside: Bool[np.ndarray, "h w"]) -> tuple[int, int, int]:
    """Top, left and side of the square round a region, centred on it; moved into the picture as far as it fits."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    size = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = max(MIN_SIDE, round(size * (1 + 2 * MARGIN)))
    place = []
    for first, last, length in ((rows[0], rows[-1], inside.shape[0]), (columns[0], columns[-1], inside.shape[1])):
        start = (first + last + 1 - side) // 2
        place.append(int(np.clip(start, 0, max(0, length - side))))
    return place[0], place[1], int(side)


def _window(picture: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """A square of a picture; what lies beyond a picture that is too small repeats its edge (black for a mask)."""
    found = picture[top : top + side, left : left + side]
    below, right = side - found.shape[0], side - found.shape[1]
    if not below and not right:
        return np.ascontiguousarray(found)
    kind = cv2.BORDER_CONSTANT if picture.ndim == 2 else cv2.BORDER_REPLICATE
    return cv2.copyMakeBorder(found, 0, below, 0, right, kind, value=0)


def side_by_side(pictures: Sequence[UInt8[np.ndarray, "s s 3"]], *, columns: int) -> UInt8[np.ndarray, "h w 3"]:
    """Squares in rows of so many, the last row filled up with the ground."""
    side = pictures[0].shape[0]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * side, columns * side, 3), _GROUND, np.uint8)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = picture
    return sheet


def save_jpeg(path: Path, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Write an RGB picture as JPEG; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())

"""How source pixels become stored pixels: turned upright, made smaller, cropped; label maps follow exactly."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vice.data_specs.shard_format import PrepSettings

_TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}
"""EXIF orientation to what turns the stored rows and columns upright."""
_INVERSE = {6: 8, 8: 6}
"""The orientations whose turn is not its own inverse."""


def turn_back(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the turn of an EXIF orientation on [h, w, ...]; a view."""
    return _TURNS[_INVERSE.get(orientation, orientation)](array)


@dataclass(frozen=True)
class Geometry:
    """Turn, then resize, then crop; sizes are (width, height) in pixels."""

    orientation: int
    """EXIF orientation, 1..8."""
    upright: tuple[int, int]
    """Size once turned."""
    resized: tuple[int, int]
    """Size once made smaller."""
    crop: tuple[int, int, int, int]
    """What is kept of that: left, top, width, height."""

    @property
    def changes_nothing(self) -> bool:
        """Whether the stored picture is the source picture, pixel by pixel."""
        return self.orientation == 1 and self.upright == self.resized == self.crop[2:]

    @property
    def reduction(self) -> int:
        """Largest of 8, 4, 2 and 1 by which a JPEG decoder may reduce the picture without a visible change.

        It divides both sides, so that nothing moves against the labels, and leaves twice the final size.
        """
        for by in (8, 4, 2):
            if all(old % by == 0 and old // by >= 2 * new for old, new in zip(self.upright, self.resized, strict=True)):
                return by
        return 1

    def picture(self, pixels: np.ndarray) -> np.ndarray:
        """Apply to uint8 [h, w, 3] as in the file or reduced; area averaging where made smaller."""
        pixels = np.ascontiguousarray(_TURNS[self.orientation](pixels))
        if self.resized != self.upright:
            pixels = cv2.resize(pixels, dsize=self.resized, interpolation=cv2.INTER_AREA)
        return self._cropped(pixels)

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Apply to uint8 or uint16 [h, w] as in the file; where made smaller, the value of the pixel under the centre.

        In integers: OpenCV's nearest neighbour takes another pixel where a centre falls on a border.
        """
        labels = _TURNS[self.orientation](labels)
        if self.resized != self.upright:
            columns, rows = (
                (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(self.resized, self.upright, strict=True)
            )
            labels = labels[rows[:, None], columns]
        return self._cropped(labels)

    def _cropped(self, array: np.ndarray) -> np.ndarray:
        left, top, width, height = self.crop
        return np.ascontiguousarray(array[top : top + height, left : left + width])


def plan_geometry(width: int, height: int, orientation: int, settings: PrepSettings) -> Geometry:
    """The geometry of a picture of `width` × `height` pixels in the file; nothing is ever enlarged."""
    upright = (width, height) if orientation <= 4 else (height, width)
    scale = min(1.0, settings.max_side / max(upright))
    if settings.short_side is not None:
        scale = min(scale, settings.short_side / min(upright))
    resized = (max(1, round(upright[0] * scale)), max(1, round(upright[1] * scale)))
    crop = (0, 0, *resized)
    if settings.center_crop:
        side = min(resized)
        crop = ((resized[0] - side) // 2, (resized[1] - side) // 2, side, side)
    return Geometry(orientation, upright, resized, crop)

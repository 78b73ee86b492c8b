"""Pictures and maps of ids as one looks at them: views back from their numbers, outlines, colours, sizes."""

from __future__ import annotations

import colorsys
import math

import cv2
import numpy as np

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD

_OUTLINE = (255, 230, 0)


def view_picture(image: np.ndarray) -> np.ndarray:
    """A normalised view, float32 [3, h, w], as uint8 [h, w, 3] RGB; noise beyond a picture's range is clipped."""
    pixels = image.transpose(1, 2, 0) * np.float32(IMAGE_STD) + np.float32(IMAGE_MEAN)
    return np.clip(np.rint(pixels * 255), 0, 255).astype(np.uint8)


def outlined(picture: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The picture with the borders of regions drawn in yellow, uint8 [h, w, 3]; among ignored pixels there are none."""
    border = np.zeros(ids.shape, bool)
    border[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    border[1:] |= ids[1:] != ids[:-1]
    drawn = picture.copy()
    drawn[border] = _OUTLINE
    return drawn


def class_colours(count: int) -> np.ndarray:
    """uint8 [count, 3]: colours that differ well for neighbouring classes; a class's does not depend on the count."""
    golden = (math.sqrt(5) - 1) / 2
    strengths = [(0.85, 1.0), (0.55, 0.95), (0.95, 0.65)]
    rgb = [colorsys.hsv_to_rgb((0.58 + i * golden) % 1, *strengths[i % 3]) for i in range(count)]
    return (np.array(rgb).reshape(count, 3) * 255).round().astype(np.uint8)


def scaled(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture at another size: averaged when smaller, in blocks when at least twice as large."""
    grows = width / pixels.shape[1]
    how = cv2.INTER_AREA if grows < 1 else cv2.INTER_NEAREST if grows >= 2 else cv2.INTER_CUBIC
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    return cv2.resize(pixels, dsize=(width, height), interpolation=how)


def nearest(ids: np.ndarray, width: int, height: int) -> np.ndarray:
    """A map of ids or classes at another size, nearest neighbour."""
    rows = ((np.arange(height) + 0.5) * ids.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * ids.shape[1] / width).astype(int)
    return ids[np.ix_(rows, columns)]

"""Content density of a picture: where its edges are. View centres are drawn from it (paper, section 3.1)."""

from __future__ import annotations

import cv2
import numpy as np

from vice.pipeline.superpixels.compiled import compiled

DENSITY_VERSION = "canny 1"

_FLOOR = 0.005
"""Every place can be drawn, even in a picture without any edge."""

_BAND = 32
"""Rows whose gradients are computed at once: they stay in the processor's cache."""


def density_map(picture: np.ndarray, stride: int) -> np.ndarray:
    """Gaussian-filtered Canny edges, averaged over cells of `stride` × `stride` pixels.

    The authors' values: blur 3×3, Canny 10/50 with the L2 gradient, dilate 3×3, blur 3×3, plus 0.005.

    Args:
        picture: uint8 [h, w, 3], RGB.
        stride: picture pixels per cell.

    Returns:
        uint8 [ceil(h / stride), ceil(w / stride)], 1..255 (255: edges everywhere).
    """
    blurred = cv2.GaussianBlur(picture, ksize=(3, 3), sigmaX=0)
    edges = cv2.Canny(*_gradients(blurred), threshold1=10, threshold2=50, L2gradient=True)
    cv2.dilate(edges, kernel=np.ones((3, 3), np.uint8), dst=edges)
    cv2.GaussianBlur(edges, ksize=(3, 3), sigmaX=0, dst=edges)
    density = _cell_means(edges, stride) / 255 + _FLOOR
    return np.clip(np.round(density * 255), 1, 255).astype(np.uint8)


def _gradients(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel's derivatives to the right and downwards, int16 [h, w], each pixel's from its steepest channel.

    `cv2.Canny` computes the same of a picture with three channels, and takes three times as long.
    """
    height, width = picture.shape[:2]
    right, down = np.empty((2, height, width), np.int16)
    for top in range(0, height, _BAND):
        bottom, first = min(top + _BAND, height), max(top - 1, 0)
        rows = picture[first : bottom + 1]  # with a neighbour on either side, where there is one
        by_channel = [cv2.Sobel(rows, cv2.CV_16S, *axis, borderType=cv2.BORDER_REPLICATE) for axis in ((1, 0), (0, 1))]
        by_channel = [values[top - first : bottom - first].reshape(-1) for values in by_channel]
        _keep_steepest(*by_channel, right[top:bottom].reshape(-1), down[top:bottom].reshape(-1))
    return right, down


@compiled
def _keep_steepest(right_by_channel, down_by_channel, right, down):
    """Of three channels, int16 [n · 3], the first one with the largest gradient, into int16 [n]."""
    for i in range(right.size):
        steepest = np.int32(-1)
        dx, dy = np.int16(0), np.int16(0)
        for channel in range(3):
            x, y = right_by_channel[3 * i + channel], down_by_channel[3 * i + channel]
            steepness = np.int32(x) * np.int32(x) + np.int32(y) * np.int32(y)
            if steepness > steepest:
                steepest, dx, dy = steepness, x, y
        right[i], down[i] = dx, dy


def _cell_means(values: np.ndarray, stride: int) -> np.ndarray:
    """Mean over each cell; a cell at the right or lower border averages the pixels it has. Returns float64."""
    sums = _cell_sums(values, stride)
    heights, widths = (
        np.minimum(stride, length - stride * np.arange(count))
        for length, count in zip(values.shape, sums.shape, strict=True)
    )
    return sums / np.outer(heights, widths)


@compiled
def _cell_sums(values, stride):
    """Sums of uint8 [h, w] over each cell of `stride` × `stride` pixels: int32 [ceil(h / stride), ceil(w / stride)]."""
    height, width = values.shape
    sums = np.zeros((-(-height // stride), -(-width // stride)), np.int32)
    columns = np.empty(width, np.int32)
    for row in range(sums.shape[0]):
        columns[:] = 0
        for y in range(row * stride, min((row + 1) * stride, height)):
            for x in range(width):
                columns[x] += np.int32(values[y, x])
        for column in range(sums.shape[1]):
            for x in range(column * stride, min((column + 1) * stride, width)):
                sums[row, column] += columns[x]
    return sums

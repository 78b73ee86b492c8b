"""Content density of a picture: where its edges are. View centres are drawn from it (paper, section 3.1)."""

from __future__ import annotations

import cv2
import numpy as np

DENSITY_VERSION = "canny 1"

_FLOOR = 0.005
"""Every place can be drawn, even in a picture without any edge."""


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
    edges = cv2.Canny(blurred, threshold1=10, threshold2=50, L2gradient=True)
    wide = cv2.dilate(edges, kernel=np.ones((3, 3), np.uint8))
    smooth = cv2.GaussianBlur(wide, ksize=(3, 3), sigmaX=0)
    density = _cell_means(smooth, stride) / 255 + _FLOOR
    return np.clip(np.round(density * 255), 1, 255).astype(np.uint8)


def _cell_means(values: np.ndarray, stride: int) -> np.ndarray:
    """Mean over each cell; a cell at the right or lower border averages the pixels it has. Returns float64."""
    rows = np.arange(0, values.shape[0], stride)
    columns = np.arange(0, values.shape[1], stride)
    sums = np.add.reduceat(np.add.reduceat(values.astype(np.int64), rows, axis=0), columns, axis=1)
    heights = np.diff(np.append(rows, values.shape[0]))
    widths = np.diff(np.append(columns, values.shape[1]))
    return sums / np.outer(heights, widths)

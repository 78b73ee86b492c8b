"""SLIC and SLICO (Achanta et al. 2012): k-means of pixels in colour and place, each centre searching its surroundings.

Squared distances are `|colour|² + (ruler / step)² |place|²`, colours in CIELAB with L from 0 to 100 (OpenCV's method
takes L as it is stretched over 8 bits: for it, lightness counts two and a half times as much).
"""

from __future__ import annotations

import math

import numpy as np

from vice.pipeline.superpixels.kernels import assign, first_centres, grid_labels, move_centres, planes_of, widen

SLIC_VERSION = "2"


def slic(
    lab: np.ndarray,
    sums: np.ndarray,
    rows: int,
    columns: int,
    *,
    ruler: float = 10.0,
    iterations: int = 10,
    adaptive: bool = False,
    row_step: int = 1,
) -> np.ndarray:
    """Divide a picture by SLIC; labels are not yet connected.

    Args:
        lab: uint8 [h, w, 3], CIELAB as OpenCV scales it to 8 bits.
        sums: int32 [h, w + 1, 3], its `row_sums`.
        rows: of the grid of first centres.
        columns: of it; rows · columns below 2³¹.
        ruler: compactness m, the colour difference that weighs as much as a step in the picture.
        iterations: of assignment and update; the last ends with an assignment.
        row_step: all iterations but the last take every so many-th row, a different set each time: with 2 in half the
            time, and as good where a region has ten rows or more.
        adaptive: SLICO: a centre's squared colour distances are divided by the largest that it had so far (1 at least,
            100 in the first iteration), and the ruler has no part.

    Returns:
        int32 [h, w], numbers of centres.
    """
    height, width = lab.shape[:2]
    planes = planes_of(lab)
    step = math.sqrt(height * width / (rows * columns))
    centres = first_centres(lab, rows, columns)
    weights, widest = np.full(len(centres), 1 / 100 if adaptive else 1, np.float32), np.ones(len(centres), np.float32)
    weight = np.float32(1 / step**2 if adaptive else (ruler / step) ** 2)
    labels = grid_labels(height, width, rows, columns)
    distances = np.empty((height, width), np.float32)
    reach = max(1, math.ceil(step))
    rows_of = [(iteration % row_step, row_step) for iteration in range(iterations - 1)] + [(0, 1)]
    for iteration in range(iterations):
        if iteration:
            move_centres(sums, labels, centres, *rows_of[iteration - 1])
            if adaptive:
                widen(planes, labels, centres, widest, *rows_of[iteration - 1])
                weights = np.float32(1) / widest
        assign(planes, distances, labels, centres, weights, reach, weight, *rows_of[iteration])
    return labels

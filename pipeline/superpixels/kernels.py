"""The two steps of SLIC that repeat, and what prepares them: compiled by numba, kept on disk for the next process.

Arithmetic is the same on every x86-64 processor: sums are integers; distances are single float32 operations in the
order in which they are written, with no fused multiply-add and nothing reordered (`fastmath` stays off), so that a
wider vector unit takes more pixels at once and changes none; a mean is one float64 division, rounded to float32.
"""

from __future__ import annotations

import numba
import numpy as np

from vice.pipeline.superpixels.compiled import compiled

LIGHTNESS = 100 / 255
"""OpenCV stretches L, 0 to 100, over 8 bits; a and b it only shifts."""

FIELDS = 5
"""Of a centre: row, column, and the three colours."""


@compiled
def row_sums(picture):
    """Sums of the channels along rows: int32 [h, w + 1, 3] of uint8 [h, w, 3]; a run's sum is a difference of two."""
    height, width = picture.shape[:2]
    sums = np.empty((height, width + 1, 3), np.int32)
    for y in range(height):
        s0, s1, s2 = np.int32(0), np.int32(0), np.int32(0)
        sums[y, 0, 0], sums[y, 0, 1], sums[y, 0, 2] = s0, s1, s2
        for x in range(width):
            s0 += np.int32(picture[y, x, 0])
            s1 += np.int32(picture[y, x, 1])
            s2 += np.int32(picture[y, x, 2])
            sums[y, x + 1, 0], sums[y, x + 1, 1], sums[y, x + 1, 2] = s0, s1, s2
    return sums


@compiled
def planes_of(picture):
    """A picture uint8 [h, w, 3] as float32 planes [3, h, w]."""
    height, width = picture.shape[:2]
    planes = np.empty((3, height, width), np.float32)
    for y in range(height):
        for x in range(width):
            planes[0, y, x] = np.float32(picture[y, x, 0] * LIGHTNESS)
            planes[1, y, x] = picture[y, x, 1]
            planes[2, y, x] = picture[y, x, 2]
    return planes


@compiled
def grid_labels(height, width, rows, columns):
    """Numbers of an even grid's cells, int32 [h, w]."""
    labels = np.empty((height, width), np.int32)
    across = np.empty(width, np.int32)
    for x in range(width):
        across[x] = x * columns // width
    for y in range(height):
        first = np.int32(y * rows // height * columns)
        for x in range(width):
            labels[y, x] = first + across[x]
    return labels


@compiled
def first_centres(lab, rows, columns):
    """Centres of an even grid, each moved to where the picture changes least among its nine pixels (section 3.1).

    Returns:
        float32 [rows · columns, FIELDS]: row, column, colours.
    """
    height, width = lab.shape[:2]
    centres = np.empty((rows * columns, FIELDS), np.float32)
    for row in range(rows):
        for column in range(columns):
            y, x = (2 * row + 1) * height // (2 * rows), (2 * column + 1) * width // (2 * columns)
            best_y, best_x, least = y, x, _change(lab, y, x)
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    at_y, at_x = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                    change = _change(lab, at_y, at_x)
                    if change < least:  # of equal ones its own place stays
                        best_y, best_x, least = at_y, at_x, change
            centre = row * columns + column
            centres[centre, 0], centres[centre, 1] = best_y, best_x
            centres[centre, 2] = np.float32(lab[best_y, best_x, 0] * LIGHTNESS)
            centres[centre, 3], centres[centre, 4] = lab[best_y, best_x, 1], lab[best_y, best_x, 2]
    return centres


@compiled
def _change(lab, y, x):
    """Squared differences of the pixels above and below, left and right; beyond the edge the picture repeats."""
    height, width = lab.shape[:2]
    total = 0
    for channel in range(3):
        down = np.int64(lab[min(y + 1, height - 1), x, channel]) - np.int64(lab[max(y - 1, 0), x, channel])
        across = np.int64(lab[y, min(x + 1, width - 1), channel]) - np.int64(lab[y, max(x - 1, 0), channel])
        total += down * down + across * across
    return total


@compiled
def assign(planes, distances, labels, centres, colour_weights, reach, weight, first_row, row_step):
    """Give every pixel in the square of side 2 `reach` round a centre to the nearest centre.

    Achanta et al. 2012, section 3.2; the square's width is rounded up to a multiple of 8.

    The distance is `colour_weight |colour difference|² + weight |place difference|²`; of equal ones the first centre
    wins. Pixels out of every centre's reach keep their label.

    Args:
        planes: float32 [3, h, w].
        distances: float32 [h, w], overwritten.
        labels: int32 [h, w], changed.
        centres: float32 [k, FIELDS].
        colour_weights: float32 [k].
        reach: in pixels.
        weight: of the squared distance in the picture.
        first_row: only rows from this one on,
        row_step: each so many rows below the one before.
    """
    height, width = labels.shape
    first, second, third = planes[0].reshape(-1), planes[1].reshape(-1), planes[2].reshape(-1)
    nearest, owners = distances.reshape(-1), labels.reshape(-1)
    nearest[:] = np.inf
    across = np.empty(2 * reach + 8, np.float32)
    for centre in range(len(centres)):
        row, column = centres[centre, 0], centres[centre, 1]
        c0, c1, c2 = centres[centre, 2], centres[centre, 3], centres[centre, 4]
        colour_weight, owner = colour_weights[centre], np.int32(centre)
        top, bottom = max(0, int(row) - reach + 1), min(height, int(row) + reach + 1)
        left = max(0, int(column) - reach + 1)
        # to a multiple of eight pixels: what is left of a loop over vectors would cost as much as two more of them
        right = min(width, left + (int(column) + reach + 1 - left + 7) // 8 * 8)
        for x in range(left, right):
            dx = np.float32(x) - column
            across[x - left] = dx * dx * weight
        # unsigned places need no check for negative ones: with it the loop would not be vectorised
        count = numba.uint64(right - left)
        for y in range(top + (first_row - top) % row_step, bottom, row_step):
            dy = np.float32(y) - row
            down = dy * dy * weight
            start = numba.uint64(y * width + left)
            for j in range(count):
                at = start + j
                d0, d1, d2 = first[at] - c0, second[at] - c1, third[at] - c2
                distance = (d0 * d0 + d1 * d1 + d2 * d2) * colour_weight + (across[j] + down)
                before = nearest[at]
                nearer = distance < before
                nearest[at] = distance if nearer else before
                owners[at] = owner if nearer else owners[at]


@compiled
def move_centres(sums, labels, centres, first_row, row_step):
    """Move every centre to the mean of its pixels in these rows, in place and colour; one without pixels stays.

    A row is taken run by run of equal labels: the sums along rows give a run's colours by two look-ups.
    """
    height, width = labels.shape
    totals = np.zeros((len(centres), FIELDS + 1), np.int64)
    for y in range(first_row, height, row_step):
        x = 0
        while x < width:
            label = labels[y, x]
            end = x + 1
            while end < width and labels[y, end] == label:
                end += 1
            count = end - x
            totals[label, 0] += y * count
            totals[label, 1] += (x + end - 1) * count  # twice the sum of the columns
            for channel in range(3):
                totals[label, 2 + channel] += sums[y, end, channel] - sums[y, x, channel]
            totals[label, 5] += count
            x = end
    for centre in range(len(centres)):
        count = totals[centre, 5]
        if count > 0:
            centres[centre, 0] = np.float32(totals[centre, 0] / count)
            centres[centre, 1] = np.float32(totals[centre, 1] / (2 * count))
            centres[centre, 2] = np.float32(totals[centre, 2] / count * LIGHTNESS)
            centres[centre, 3] = np.float32(totals[centre, 3] / count)
            centres[centre, 4] = np.float32(totals[centre, 4] / count)


@compiled
def widen(planes, labels, centres, widest, first_row, row_step):
    """SLICO: raise `widest`, float32 [k], to the largest squared colour distance among each centre's pixels."""
    height, width = labels.shape
    for y in range(first_row, height, row_step):
        for x in range(width):
            label = labels[y, x]
            d0 = planes[0, y, x] - centres[label, 2]
            d1 = planes[1, y, x] - centres[label, 3]
            d2 = planes[2, y, x] - centres[label, 4]
            widest[label] = max(widest[label], d0 * d0 + d1 * d1 + d2 * d2)

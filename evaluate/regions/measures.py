"""Superpixel measures against a segmentation by hand (Stutz et al. 2018 review and compare them).

Regions and truth are maps of ids, [h, w], of any integer type; ids need not be without gaps.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Bool, Int64, Integer

TOLERANCE = 0.0025
"""Of boundary recall, as a share of the picture's diagonal (Stutz et al. 2018, section 4.2)."""


def boundaries(regions: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels that differ from one of their four neighbours."""
    found = np.zeros(regions.shape, bool)
    across, down = regions[:, 1:] != regions[:, :-1], regions[1:] != regions[:-1]
    found[:, 1:] |= across
    found[:, :-1] |= across
    found[1:] |= down
    found[:-1] |= down
    return found


def boundary_recall(
    regions: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "h w"], tolerance: int | None = None
) -> float:
    """Share of the truth's boundary pixels with a region boundary within a square of side 2 tolerance + 1.

    Martin et al. 2004; 1 where the truth has no boundary.

    Args:
        regions: superpixels.
        truth: a segmentation by hand.
        tolerance: in pixels; None takes TOLERANCE of the diagonal, rounded.
    """
    tolerance = round(TOLERANCE * math.hypot(*regions.shape)) if tolerance is None else tolerance
    wanted = boundaries(truth)
    if not wanted.any():
        return 1.0
    near = cv2.dilate(boundaries(regions).astype(np.uint8), np.ones((2 * tolerance + 1,) * 2, np.uint8))
    return float((near[wanted] > 0).mean())


def overlaps(
    regions: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "h w"]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """For every pair of a region and a segment that meet: number of the region (0, 1, ...), and shared pixels."""
    numbers = np.unique(regions, return_inverse=True)[1].reshape(-1).astype(np.int64)
    segments = np.unique(truth, return_inverse=True)[1].reshape(-1).astype(np.int64)
    count = int(segments.max()) + 1
    pairs, shared = np.unique(numbers * count + segments, return_counts=True)
    return pairs // count, shared.astype(np.int64)


def undersegmentation_error(regions: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "h w"]) -> float:
    """`1/N Σ_G Σ_{S ∩ G ≠ ∅} min(|S ∩ G|, |S - G|)` (Neubert and Protzel 2012, Eq. 6): lower is better."""
    of, shared = overlaps(regions, truth)
    sizes = np.bincount(of, weights=shared)
    return float(np.minimum(shared, sizes[of] - shared).sum() / regions.size)


def achievable_accuracy(regions: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "h w"]) -> float:
    """`1/N Σ_S max_G |S ∩ G|`: the accuracy with every region as its main segment (Liu et al. 2011, section 5)."""
    of, shared = overlaps(regions, truth)
    largest = np.zeros(int(of.max()) + 1, np.int64)
    np.maximum.at(largest, of, shared)
    return float(largest.sum() / regions.size)


def compactness(regions: Integer[np.ndarray, "h w"]) -> float:
    """`Σ_S |S| / N · 4π |S| / P_S²` (Schick et al. 2012, Eq. 4), the perimeter P counted in pixel edges.

    The picture's edge counts as perimeter. 1 would be a circle; a square of pixels has π/4.
    """
    numbers = np.unique(regions, return_inverse=True)[1].reshape(regions.shape)
    padded = np.pad(numbers, 1, constant_values=-1)
    perimeter = np.zeros(int(numbers.max()) + 1)
    for axis in (0, 1):
        first = padded[:-1] if axis == 0 else padded[:, :-1]
        second = padded[1:] if axis == 0 else padded[:, 1:]
        edge = first != second
        for side in (first[edge], second[edge]):
            perimeter += np.bincount(side[side >= 0], minlength=len(perimeter))
    area = np.bincount(numbers.reshape(-1)).astype(float)
    return float((area / regions.size * 4 * math.pi * area / perimeter**2).sum())

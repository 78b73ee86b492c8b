import math

import numpy as np
import pytest

from vice.evaluate.regions.measures import (
    achievable_accuracy,
    boundaries,
    boundary_recall,
    compactness,
    undersegmentation_error,
)

HALVES = np.repeat([[0, 1]], 8, axis=0).repeat(4, axis=1)
"""8 × 8: a left and a right half."""


def test_boundaries_are_the_pixels_on_both_sides():
    assert boundaries(HALVES).sum(axis=0).tolist() == [0, 0, 0, 8, 8, 0, 0, 0]


def test_a_segmentation_against_itself_is_perfect():
    assert boundary_recall(HALVES, HALVES) == 1
    assert undersegmentation_error(HALVES, HALVES) == 0
    assert achievable_accuracy(HALVES, HALVES) == 1


def test_a_shifted_boundary_by_hand():
    """Regions of 3 and 5 columns against halves of 4: one column of the right region belongs to the left half."""
    regions = np.repeat([[0] * 3 + [1] * 5], 8, axis=0)
    assert achievable_accuracy(regions, HALVES) == 56 / 64
    assert undersegmentation_error(regions, HALVES) == (8 + 8) / 64  # the one column, as part of either half
    # true boundary in columns 3 and 4, found in 2 and 3
    assert boundary_recall(regions, HALVES, tolerance=0) == 0.5
    assert boundary_recall(regions, HALVES, tolerance=1) == 1


def test_the_tolerance_grows_with_the_picture():
    truth = np.zeros((300, 400), int)
    truth[:, 200:] = 1
    for shift, found in ((1, 1.0), (2, 0.5), (3, 0.0)):  # 0.0025 · 500 = 1.25, rounded to 1
        regions = np.zeros_like(truth)
        regions[:, 200 + shift :] = 1
        assert boundary_recall(regions, truth) == found


def test_a_truth_without_boundaries_is_recalled():
    assert boundary_recall(HALVES, np.zeros((8, 8), int)) == 1


def test_squares_and_stripes_by_hand():
    squares = np.arange(4).reshape(2, 2).repeat(4, axis=0).repeat(4, axis=1)
    assert compactness(squares) == pytest.approx(math.pi / 4)
    stripes = np.repeat(np.arange(8)[:, None], 8, axis=1)
    assert compactness(stripes) == pytest.approx(4 * math.pi * 8 / 18**2)
    assert compactness(squares * 1000 + 7) == compactness(squares)

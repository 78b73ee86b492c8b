"""Connected pieces against SciPy, and merging against a plain reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vice.pipeline.superpixels.kernels import row_sums
from vice.pipeline.superpixels.pieces import connected_regions, count_pieces

ALL = 1 << 30


def draws(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def by_scipy(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Pieces of every label, numbered in the order of their first pixels."""
    pieces, count = np.zeros(labels.shape, int), 0
    for label in np.unique(labels):
        own, found = ndimage.label(labels == label)
        pieces[own > 0] = own[own > 0] + count
        count += found
    first = np.unique(pieces, return_index=True)[1]
    rank = np.empty(count, int)
    rank[np.argsort(first)] = np.arange(count)
    return rank[pieces - 1], count


def merged_plainly(pieces: np.ndarray, picture: np.ndarray, min_area: float, max_count: int) -> np.ndarray:
    """The smallest piece goes to the neighbour nearest in mean colour, again and again."""
    pieces = pieces.copy()
    while True:
        ids, areas = np.unique(pieces, return_counts=True)
        smallest = min(zip(areas.tolist(), ids.tolist(), strict=True))
        if len(ids) == 1 or (smallest[0] >= min_area and len(ids) <= max_count):
            return np.unique(pieces, return_inverse=True)[1].reshape(pieces.shape)
        piece = smallest[1]
        padded, inside = np.pad(pieces, 1, constant_values=-1), np.pad(pieces == piece, 1)
        around = [padded[np.roll(inside, shift, axis)] for axis in (0, 1) for shift in (1, -1)]
        neighbours, lengths = np.unique(np.concatenate(around), return_counts=True)
        mean = picture[pieces == piece].mean(axis=0)
        best = min(
            (float(((picture[pieces == other].mean(axis=0) - mean) ** 2).sum()), -int(length), int(other))
            for other, length in zip(neighbours, lengths, strict=True)
            if other not in (-1, piece)
        )[2]
        pieces[pieces == max(piece, best)] = min(piece, best)


def test_pieces_of_equal_label_are_told_apart():
    labels = np.array([[7, 7, 3, 7], [3, 3, 3, 7], [7, 3, 7, 7], [7, 3, 3, 3]])
    pieces, count = connected_regions(labels, np.zeros((4, 5, 3), np.int32), min_area=0, max_count=ALL)
    assert count == count_pieces(labels) == 4
    assert pieces.tolist() == [[0, 0, 1, 2], [1, 1, 1, 2], [3, 1, 2, 2], [3, 1, 1, 1]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.integers(1, 4), st.integers(0, 99))
def test_pieces_are_scipy_s(height, width, num_labels, key):
    labels = draws(key).integers(0, num_labels, (height, width))
    expected, count = by_scipy(labels)
    sums = np.zeros((height, width + 1, 3), np.int32)
    found, number = connected_regions(labels, sums, min_area=0, max_count=ALL)
    assert number == count == count_pieces(labels)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("min_area", "max_count"), [(5, ALL), (0, 12), (9, 6), (1000, ALL)])
@pytest.mark.parametrize("key", range(6))
def test_merging_is_that_of_the_plain_reference(min_area, max_count, key):
    labels = ndimage.zoom(draws(key).integers(0, 4, (8, 10)), 2, order=0)
    labels[draws(key + 50).random(labels.shape) < 0.1] = 9
    picture = draws(key + 100).integers(0, 256, (*labels.shape, 3)).astype(np.uint8)
    expected = merged_plainly(by_scipy(labels)[0], picture, min_area, max_count)
    found, count = connected_regions(labels, row_sums(picture), min_area=min_area, max_count=max_count)
    np.testing.assert_array_equal(found, by_scipy(expected)[0])
    assert count == expected.max() + 1


def test_fragments_go_to_the_neighbour_nearest_in_colour():
    labels = np.repeat(np.array([[0] * 4 + [1] + [2] * 4], np.int32), 4, axis=0)
    picture = np.zeros((4, 9, 3), np.uint8)
    picture[:, 4], picture[:, 5:] = 90, 120
    merged, count = connected_regions(labels, row_sums(picture), min_area=8, max_count=3)
    assert count == 2 and merged[0].tolist() == [0] * 4 + [1] * 5
    picture[:, 4] = 50
    merged, _ = connected_regions(labels, row_sums(picture), min_area=8, max_count=3)
    assert merged[0].tolist() == [0] * 5 + [1] * 4

import numpy as np
import pytest
from sharding import blobs

from vice.evaluate.atlas.cut_outs import cut_out, side_by_side


@pytest.mark.parametrize(("top", "left"), [(70, 80), (0, 0), (138, 190)])
def test_a_region_is_whole_and_keeps_its_colours(top, left):
    picture = np.full((150, 200, 3), 40, np.uint8)
    regions = np.zeros((150, 200), np.uint16)
    regions[top : top + 12, left : left + 10] = 1
    picture[regions == 1] = (250, 20, 20)
    cut = cut_out(picture, regions, 1, side=48)  # the least side: not resized
    red = (cut == (250, 20, 20)).all(axis=2)
    assert red.sum() == (regions == 1).sum()
    if (top, left) == (70, 80):
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        assert abs(rows.mean() - 23.5) <= 1 and abs(columns.mean() - 23.5) <= 1
    # what surrounds it is pale, and parted from it by a light and a dark line
    assert ((cut == 255).all(axis=2).any() and cut[0, -1].min() > 120) or top > 100


def test_a_region_larger_than_its_surroundings_fits_as_well():
    cut = cut_out(blobs(100, 60, seed=1), np.zeros((60, 100), np.uint16), 0, side=64)
    assert cut.shape == (64, 64, 3)


def test_squares_lie_row_by_row():
    squares = [np.full((2, 2, 3), number, np.uint8) for number in range(5)]
    sheet = side_by_side(squares, columns=3)
    assert sheet.shape == (4, 6, 3)
    assert sheet[::2, ::2, 0].tolist() == [[0, 1, 2], [3, 4, 228]]

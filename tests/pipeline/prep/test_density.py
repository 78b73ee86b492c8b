"""Content density: shape, floor, and where the edges are."""

import numpy as np
import pytest
from sharding import blobs

from vice.pipeline.prep.density import density_map


@pytest.mark.parametrize(
    ("size", "stride"), [((80, 60), 4), ((81, 61), 4), ((83, 62), 7), ((40, 40), 64), ((40, 40), 1)]
)
def test_it_has_a_cell_for_every_started_stride(size, stride):
    density = density_map(blobs(*size, 0), stride)
    assert density.dtype == np.uint8
    assert density.shape == (-(-size[1] // stride), -(-size[0] // stride))


def test_a_flat_picture_has_the_floor_everywhere():
    assert (density_map(np.full((61, 83, 3), 77, np.uint8), 4) == 1).all()


def test_a_step_is_a_line_of_edges():
    """One edge pixel, three after dilation; blurred by (1, 2, 1) / 4: 64, 191, 255, 191, 64; plus 1.275."""
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:, 40:] = 200
    density = density_map(picture, 1)
    inner = density[8:40]
    assert (inner == inner[0]).all()
    line = np.flatnonzero(inner[0] > 1)
    assert len(line) == 5 and 39 <= line[2] <= 41
    assert inner[0, line].tolist() == [65, 192, 255, 192, 65]


def test_cells_average_their_pixels():
    picture = blobs(83, 61, 3)
    fine, coarse = density_map(picture, 1).astype(float), density_map(picture, 5).astype(float)
    for row, column in [(0, 0), (4, 9), (12, 3), (12, 16)]:
        cell = fine[5 * row : 5 * row + 5, 5 * column : 5 * column + 5]
        assert abs(coarse[row, column] - cell.mean()) <= 1.5  # both are rounded, and 255 is the most a cell can hold

"""Content density: shape, floor, and where the edges are."""

import cv2
import numpy as np
import pytest
from photographs import photographs
from sharding import blobs

from vice.pipeline.prep.density import density_map


@pytest.mark.parametrize(
    ("size", "stride"),
    [
        ((80, 60), 4),
        ((80, 61), 1),
        ((81, 61), 3),
        ((82, 59), 7),
        ((5, 3), 7),
        ((81, 61), 4),
        ((83, 62), 7),
        ((40, 40), 64),
        ((40, 40), 1),
    ],
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


@pytest.mark.parametrize("stride", [1, 3, 4, 7])
def test_no_cell_is_ever_empty(stride):
    flat = density_map(np.full((61, 83, 3), 200, np.uint8), stride)
    assert (flat == 1).all() and flat.shape == (-(-61 // stride), -(-83 // stride))
    half = blobs(83, 61, 4)
    half[:, 40:] = 128
    assert density_map(half, stride).min() >= 1


def earlier_density_map(picture, stride):
    """The formula of the first version: Canny of the picture, and means by NumPy."""
    blurred = cv2.GaussianBlur(picture, ksize=(3, 3), sigmaX=0)
    edges = cv2.Canny(blurred, threshold1=10, threshold2=50, L2gradient=True)
    wide = cv2.dilate(edges, kernel=np.ones((3, 3), np.uint8))
    smooth = cv2.GaussianBlur(wide, ksize=(3, 3), sigmaX=0).astype(np.int64)
    rows, columns = (np.arange(0, length, stride) for length in smooth.shape)
    sums = np.add.reduceat(np.add.reduceat(smooth, rows, axis=0), columns, axis=1)
    heights, widths = np.diff(np.append(rows, len(smooth))), np.diff(np.append(columns, smooth.shape[1]))
    density = sums / np.outer(heights, widths) / 255 + 0.005
    return np.clip(np.round(density * 255), 1, 255).astype(np.uint8)


@pytest.mark.parametrize("stride", [1, 3, 4, 64])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (32, 32), (33, 31), (67, 64), (129, 65)])
def test_every_bit_is_as_before(size, stride):
    """Noise has channels of equal gradients in other directions; few values give many of them."""
    random = np.random.Generator(np.random.Philox(key=size[0] * 1000 + size[1]))
    grey = random.integers(0, 256, size, np.uint8)
    pictures = [random.integers(0, high, (*size, 3), np.uint8) for high in (2, 9, 40, 256)]
    pictures += [np.dstack([grey] * 3), blobs(size[1], size[0], 5)]
    for picture in pictures:
        assert np.array_equal(density_map(picture, stride), earlier_density_map(picture, stride))


@pytest.mark.photographs
def test_every_bit_of_photographs_is_as_before():
    for path in sorted(photographs("bsds500", "train", "images").iterdir())[:4]:
        for flags in (cv2.IMREAD_COLOR_RGB, cv2.IMREAD_GRAYSCALE):
            picture = cv2.imread(str(path), flags)
            picture = np.dstack([picture] * 3) if picture.ndim == 2 else picture
            assert np.array_equal(density_map(picture, 4), earlier_density_map(picture, 4))


@pytest.mark.photographs
@pytest.mark.parametrize("stride", [1, 4, 7])
def test_a_photograph_has_the_authors_values(stride):
    """Blur, dilation and the mean of the cells by plain NumPy; only Canny is OpenCV's."""
    path = sorted(photographs("bsds500", "train", "images").iterdir())[0]
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)[:200, :301]

    def around(values, mode):
        padded = np.pad(values, ((1, 1), (1, 1)), mode=mode)
        height, width = values.shape
        return [[padded[y : y + height, x : x + width] for x in range(3)] for y in range(3)]

    def blur(values):
        rows = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
        near = around(values.astype(int), "reflect")
        return (sum(rows[y][x] * near[y][x] for y in range(3) for x in range(3)) + 8) // 16

    blurred = np.stack([blur(picture[..., channel]) for channel in range(3)], axis=2).astype(np.uint8)
    edges = cv2.Canny(blurred, 10, 50, L2gradient=True)
    wide = np.max([plane for row in around(edges, "constant") for plane in row], axis=0)
    expected = blur(wide) / 255 + 0.005
    density = density_map(picture, stride)
    for row, column in np.ndindex(density.shape):
        cell = expected[row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
        assert abs(int(density[row, column]) - min(255, 255 * cell.mean())) <= 0.501
    assert density.min() == 1 and density.max() == 255

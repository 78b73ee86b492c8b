"""Means of an embedding map over regions, however large the embedded picture was compared with the region map."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int32, Integer
from scipy import sparse


def region_means(
    embedding: Float32[np.ndarray, "d gh gw"],
    regions: Integer[np.ndarray, "h w"],
    *,
    stride: int,
    size: tuple[int, int] | None = None,
) -> Float32[np.ndarray, "r d"]:
    """Mean over every region of the map, interpolated bilinearly at the centres of the region map's pixels.

    The map is linear between the centres of its cells and constant beyond the outermost ones, as after upsampling with
    `align_corners=False`. Cell (i, j) stands for the pixels of the embedded picture from (stride i, stride j) on; what
    the last cells hold beyond the picture is padding and belongs to no region.

    Args:
        embedding: of the embedded picture: ceil(height / stride) × ceil(width / stride) cells.
        regions: ids 0..r-1, all of them used, at the stored picture's size.
        stride: pixels of the embedded picture per cell.
        size: height and width of the embedded picture; those of `regions` if None.
    """
    heights, widths = zip(regions.shape, size or regions.shape, embedding.shape[1:], strict=True)
    (top, below, down), (left, right, across) = (_axis(*axis, stride) for axis in (heights, widths))
    columns = embedding.shape[2]
    pixels = regions.size
    cells = np.empty((4, *regions.shape), np.int32)
    weights = np.empty((4, *regions.shape), np.float64)
    for corner, (row, row_weight) in enumerate(((top, 1 - down), (below, down))):
        for side, (column, column_weight) in enumerate(((left, 1 - across), (right, across))):
            cells[2 * corner + side] = row[:, None] * columns + column
            weights[2 * corner + side] = row_weight[:, None] * column_weight
    ids = np.broadcast_to(regions.reshape(-1), (4, pixels))
    areas = np.bincount(regions.reshape(-1))
    matrix = sparse.csr_matrix(
        (weights.reshape(-1), (ids.reshape(-1), cells.reshape(-1))),
        shape=(len(areas), embedding[0].size),
    )
    shares = sparse.diags_array(1 / areas) @ matrix
    table = np.ascontiguousarray(embedding.reshape(len(embedding), -1).T)
    return np.asarray(shares.astype(np.float32) @ table)


def _axis(
    pixels: int, embedded: int, cells: int, stride: int
) -> tuple[Int32[np.ndarray, " s"], Int32[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """For every pixel of an axis the two cells that its value lies between, and the second one's weight.

    Args:
        pixels: of the region map.
        embedded: pixels of the embedded picture.
        cells: of the map.
        stride: embedded pixels per cell.
    """
    position = (np.arange(pixels) + 0.5) * (embedded / pixels) / stride - 0.5
    position = position.clip(0, cells - 1)
    first = position.astype(np.int32)
    return first, np.minimum(first + 1, cells - 1), position - first

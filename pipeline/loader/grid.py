"""Grid cells as regions: ids of the source picture's cells, computed from a view's coordinates, never stored."""

from __future__ import annotations

import numpy as np

from vice.pipeline.loader.plan import ViewPlan


def grid_ids(width: int, height: int, cell: int) -> np.ndarray:
    """int32 [height, width]: number of each pixel's cell, row by row; cell 1 numbers the pixels."""
    columns = -(-width // cell)
    return (np.arange(height)[:, None] // cell * columns + np.arange(width) // cell).astype(np.int32)


def grid_lines(width: int, cell: int, plan: ViewPlan, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell numbers of all views without making a map: pixel (i, j) of view m lies in cell `rows[m, i] + columns[m, j]`.

    Args:
        width: of the picture, in pixels.
        cell: side of a cell in picture pixels.
        plan: crops and flips.
        size: side of a view in pixels.

    Returns:
        rows and columns, int32 [m, size] each.
    """
    inside = np.floor((np.arange(size) + 0.5) * (plan.boxes.side[:, None] / size)).astype(np.int64)
    rows = (plan.boxes.top[:, None] + inside) // cell * -(-width // cell)
    columns = (plan.boxes.left[:, None] + inside) // cell
    columns[plan.flip] = columns[plan.flip, ::-1]
    return rows.astype(np.int32), columns.astype(np.int32)

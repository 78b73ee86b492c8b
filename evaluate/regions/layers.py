"""The ways of dividing a picture that are compared: stored layers, grids of equal base size, grids of equal count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Integer

from vice.pipeline.loader.grid import grid_ids
from vice.pipeline.samples import Sample
from vice.pipeline.shards import Shards


class Layer(NamedTuple):
    """One way of dividing pictures."""

    name: str
    stored: str | None
    """The stored layer itself, or the one that a grid has as many cells as."""
    cell: int | None
    """Side of a grid's cells in pixels; None for a stored layer and for a grid of equal count."""

    def regions(self, sample: Sample) -> Integer[np.ndarray, "h w"]:
        """The regions of a sample, by id."""
        height, width = sample.picture.shape[:2]
        if self.cell is not None:
            return grid_ids(width, height, self.cell)
        stored = sample.regions[self.stored]
        if self.name == self.stored:
            return stored
        return even_grid(height, width, *rows_and_columns(height, width, int(stored.max()) + 1))


def compared_layers(shards: Shards, asked: Sequence[str]) -> list[Layer]:
    """Every asked stored layer (all by default), each followed by its two grids.

    Raises:
        InputError: no such layer in the shards.
    """
    names = [shards.layer_named(name) for name in asked] or shards.layers
    sizes = {layer.name: layer.size for layer in shards.record.settings.regions}
    return [
        layer
        for name in dict.fromkeys(names)
        for layer in (
            Layer(name, name, None),
            Layer(f"grid:{sizes[name]}", None, sizes[name]),
            Layer(f"grid as many as {name}", name, None),
        )
    ]


def even_grid(height: int, width: int, rows: int, columns: int) -> Int32[np.ndarray, "h w"]:
    """So many cells, as even as can be."""
    row, column = (np.arange(length) * count // length for length, count in ((height, rows), (width, columns)))
    return (row[:, None] * columns + column).astype(np.int32)


def rows_and_columns(height: int, width: int, count: int) -> tuple[int, int]:
    """The grid whose number of cells is nearest to `count`, among those with the squarest cells."""

    def cost(rows: int, columns: int) -> float:
        return abs(rows * columns - count) / count + 0.25 * abs(math.log(height / rows * columns / width))

    around = max(1, round(math.sqrt(count * height / width)))
    candidates = [
        (rows, columns)
        for rows in range(max(1, around - 3), min(height, around + 3) + 1)
        for columns in {math.floor(count / rows), math.ceil(count / rows)}
        if 1 <= columns <= width
    ]
    return min(candidates, key=lambda pair: cost(*pair), default=(1, 1))

"""Region means of embedding maps without a loop and without the map at the views' resolution (DESIGN, section 6).

Upsampling is linear, so the mean over a region of the upsampled map is a (regions × cells) weight matrix times the map.
The matrix is sparse: a region touches few cells. It is kept as the list of its entries, whose number depends on the
cells and the regions' outlines, never on regions × cells, so that single pixels are pooled as well as superpixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from vice.data_specs.regions import IGNORE


class RegionWeights(NamedTuple):
    """Weights of map cells in every region's mean; regions are those of all views (m·n·r), some have no entry."""

    starts: Int64[Tensor, " rows"]
    """First entry of each region."""
    cells: Int64[Tensor, " entries"]
    """Each entry's cell, counted over the maps of all views."""
    values: Float[Tensor, " entries"]
    """Each entry's weight."""


def region_weights(
    regions: Int32[Tensor, "m n h w"],
    num_regions: int,
    map_size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> RegionWeights:
    """Weights of map cells in every region's mean of the map, upsampled bilinearly to the view (align_corners=False).

    Pixels of a region that read the same four cells are summed to one weight for each of these.

    Args:
        regions: ids 0..num_regions-1 or IGNORE.
        num_regions: of each picture, padded (r).
        map_size: rows and columns of the embedding map (cells = rows × columns).
        dtype: of the weights.
    """
    views, (rows, columns) = regions.shape[0] * regions.shape[1], map_size
    cells, num_rows = rows * columns, views * num_regions
    first_cell, corners, corner_weights = _corners(regions.shape[2:], map_size, regions.device, dtype)
    flat = regions.reshape(views, -1)
    # a pixel's key is its row of the result and the first of its four cells; short keys are sorted twice as fast
    short = num_rows * cells < torch.iinfo(torch.int32).max
    first_row = torch.arange(views, device=regions.device)[:, None] * num_regions
    keys = ((flat + first_row) * cells + first_cell).to(torch.int32 if short else torch.int64)
    used = (flat != IGNORE).view(-1).nonzero().squeeze(1)
    keys, order = keys.view(-1)[used].sort(stable=True)
    keys, group = torch.unique_consecutive(keys, return_inverse=True)
    sums = torch.zeros(len(keys), 4, dtype=dtype, device=regions.device)
    sums.index_add_(0, group, corner_weights[used[order] % flat.shape[1]])
    keys = keys.long()
    row = keys // cells
    pixels = torch.zeros(num_rows, dtype=dtype, device=regions.device).index_add_(0, row, sums.sum(1))
    counts = torch.bincount(row, minlength=num_rows) * 4
    places = (row // max(num_regions, 1) * cells)[:, None] + corners[keys % cells]
    return RegionWeights(counts.cumsum(0) - counts, places.flatten(), (sums / pixels[row, None]).flatten())


def pool_regions(
    maps: Float[Tensor, "m n d gh gw"], weights: RegionWeights, num_regions: int
) -> Float[Tensor, "m n r d"]:
    """Mean of the upsampled maps over every region, zero where a region has no pixel."""
    m, n, dim = maps.shape[:3]
    # a copy only where the network's output is not channels-last already
    table = maps.flatten(0, 1).permute(0, 2, 3, 1).reshape(-1, dim)
    sums = F.embedding_bag(
        weights.cells, table, weights.starts, mode="sum", per_sample_weights=weights.values.to(table.dtype)
    )
    return sums.view(m, n, num_regions, dim)


def usable_regions(
    regions: Int32[Tensor, "m n h w"],
    num_regions: Int64[Tensor, " n"],
    masked: Bool[Tensor, "m n h w"],
    *,
    most: int,
    drop_masked: bool,
) -> Bool[Tensor, "n r"]:
    """Which rows of a batch padded to `most` regions enter the loss.

    Args:
        regions: ids or IGNORE.
        num_regions: mutual regions of each picture.
        masked: pixels replaced by noise.
        most: rows (r).
        drop_masked: whether regions masked in any view stay out: masking is to change the context, not the thing.
    """
    usable = torch.arange(most, device=regions.device) < num_regions[:, None]
    if drop_masked:
        ids = torch.where(regions == IGNORE, most, regions).transpose(0, 1).flatten(1).long()
        hidden = torch.zeros(len(usable), most + 1, device=regions.device)
        hidden.scatter_add_(1, ids, masked.transpose(0, 1).flatten(1).float())
        usable &= hidden[:, :most] == 0
    return usable


def _corners(
    size: tuple[int, int], map_size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> tuple[Int64[Tensor, " pixels"], Int64[Tensor, "cells 4"], Float[Tensor, "pixels 4"]]:
    """What bilinear upsampling reads: each pixel's upper left cell, each such cell's four, and each pixel's weights."""
    (top, down), (left, across) = (
        _axis(pixels, cells, device, dtype) for pixels, cells in zip(size, map_size, strict=True)
    )
    rows, columns = (torch.arange(cells, device=device) for cells in map_size)
    below, right = (rows + 1).clamp_max(len(rows) - 1), (columns + 1).clamp_max(len(columns) - 1)
    corners = [(row[:, None] * len(columns) + column).flatten() for row in (rows, below) for column in (columns, right)]
    weights = [(row[:, None] * column).flatten() for row in (1 - down, down) for column in (1 - across, across)]
    return (top[:, None] * len(columns) + left).flatten(), torch.stack(corners, 1), torch.stack(weights, 1)


def _axis(
    pixels: int, cells: int, device: torch.device, dtype: torch.dtype
) -> tuple[Int64[Tensor, " s"], Float[Tensor, " s"]]:
    """For every pixel of an axis the first of the two cells that linear upsampling reads, and the second's weight."""
    position = ((torch.arange(pixels, device=device, dtype=dtype) + 0.5) * (cells / pixels) - 0.5).clamp_min(0)
    first = position.floor().long().clamp_max(cells - 1)
    return first, position - first

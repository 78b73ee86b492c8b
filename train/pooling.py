"""Region means of embedding maps without a loop and without the map at the views' resolution (DESIGN, section 6).

Upsampling is linear, so the mean over a region of the upsampled map is a (regions × cells) weight matrix times the map.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from vice.data_specs.regions import IGNORE


def region_weights(
    regions: Int32[Tensor, "m n h w"], num_regions: int, map_size: tuple[int, int]
) -> Float[Tensor, "m n r cells"]:
    """Weights of map cells in every region's mean; rows sum to 1, or to 0 where a region has no pixel.

    Args:
        regions: ids 0..num_regions-1 or IGNORE.
        num_regions: rows of the result (r).
        map_size: rows and columns of the embedding map (cells = rows × columns).
    """
    m, n, height, width = regions.shape
    rows, columns = map_size
    views = m * n
    # row r of each view collects the ignored pixels and is cut off at the end
    region = torch.where(regions == IGNORE, num_regions, regions).view(views, height * width).long()
    weights = torch.zeros(views, (num_regions + 1) * rows * columns, device=regions.device)
    for row, row_weight in _corners(height, rows, regions.device):
        for column, column_weight in _corners(width, columns, regions.device):
            cell = (row[:, None] * columns + column).flatten()
            share = (row_weight[:, None] * column_weight).flatten()
            weights.scatter_add_(1, region * (rows * columns) + cell, share.expand(views, -1))
    weights = weights.view(m, n, num_regions + 1, rows * columns)[:, :, :num_regions]
    return weights / weights.sum(-1, keepdim=True).clamp_min(1.0)


def pool_regions(maps: Float[Tensor, "m n d gh gw"], weights: Float[Tensor, "m n r cells"]) -> Float[Tensor, "m n r d"]:
    """Mean of the upsampled maps over every region."""
    return weights @ maps.flatten(3).transpose(2, 3)


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


def _corners(size: int, cells: int, device: torch.device) -> list[tuple[Int64[Tensor, " s"], Float[Tensor, " s"]]]:
    """For every pixel of an axis the two cells that linear upsampling reads (align_corners=False) and their weights."""
    position = ((torch.arange(size, device=device) + 0.5) * (cells / size) - 0.5).clamp_min(0)
    low = position.floor().long().clamp_max(cells - 1)
    share = position - low
    return [(low, 1 - share), ((low + 1).clamp_max(cells - 1), share)]

"""Region maps of views, on their device: mutual ids, masking, noise. No loop over regions, no random state."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from vice.data_specs.regions import IGNORE
from vice.pipeline.loader.counters import hash32


class MutualRegions(NamedTuple):
    """Regions that exist in all views of a picture, numbered anew."""

    regions: Int32[Tensor, "m n h w"]
    num_regions: Int64[Tensor, " n"]
    region_ids: Int64[Tensor, "n r"]


def count_pixels(ids: Int32[Tensor, "m n h w"]) -> Int64[Tensor, "m n r"]:
    """Pixels of every region in every view, for r = largest id + 1."""
    flat = ids.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], int(flat.max()) + 1, dtype=torch.int64, device=ids.device)
    return counts.scatter_add_(2, flat, torch.ones_like(flat))


def mutual_regions(
    ids: Int32[Tensor, "m n h w"],
    counts: Int64[Tensor, "m n r"],
    seeds: Int64[Tensor, " n"],
    *,
    max_regions: int,
    min_pixels: int = 1,
) -> MutualRegions:
    """Keep the regions that exist in all views, number them 0.. per picture in the order of their ids.

    Args:
        ids: region ids of the layer, as cropped.
        counts: of `count_pixels(ids)`.
        seeds: 32-bit, one a picture: which regions are kept where there are more than `max_regions`.
        max_regions: at most so many a picture.
        min_pixels: a region must have so many pixels in every view.
    """
    mutual = (counts >= min_pixels).all(0)
    if int(mutual.sum(1).max()) > max_regions:
        mutual &= _chosen(mutual, seeds, max_regions)
    num_regions = mutual.sum(1)
    number = torch.where(mutual, mutual.cumsum(1) - 1, IGNORE)
    region_ids = torch.full((len(mutual), max(int(num_regions.max()), 1)), -1, dtype=torch.int64, device=ids.device)
    picture, region = mutual.nonzero(as_tuple=True)
    region_ids[picture, number[picture, region]] = region
    flat = ids.flatten(2).long()
    regions = number.expand(len(ids), -1, -1).gather(2, flat).to(torch.int32).view_as(ids)
    return MutualRegions(regions, num_regions, region_ids)


def _chosen(mutual: Bool[Tensor, "n r"], seeds: Int64[Tensor, " n"], most: int) -> Bool[Tensor, "n r"]:
    """The `most` mutual regions of each picture that come first in the order of their hashes."""
    region = torch.arange(mutual.shape[1], device=mutual.device)
    order = torch.where(mutual, hash32(region ^ seeds[:, None]), 1 << 32)
    rank = order.argsort(dim=1, stable=True).argsort(dim=1)
    return rank < most


def masked_pixels(
    ids: Int32[Tensor, "m n h w"],
    counts: Int64[Tensor, "m n r"],
    shares: Float[Tensor, "m n"],
    seeds: Int64[Tensor, "m n"],
) -> Bool[Tensor, "m n h w"]:
    """Mask whole regions in the order of their hashes, as long as their area stays within the view's share.

    Args:
        ids: region ids of the layer, as cropped.
        counts: of `count_pixels(ids)`.
        shares: of the view's area, 0..1, never exceeded.
        seeds: 32-bit, one a view.
    """
    region = torch.arange(counts.shape[2], device=ids.device)
    order = torch.where(counts > 0, hash32(region ^ seeds[..., None]), 1 << 32).argsort(dim=2, stable=True)
    area = counts.gather(2, order).cumsum(2)
    budget = (shares.double() * (ids.shape[2] * ids.shape[3])).long()
    chosen = torch.zeros_like(counts, dtype=torch.bool).scatter_(2, order, area <= budget[..., None])
    return chosen.gather(2, ids.flatten(2).long()).view_as(ids)


def fill_with_noise(
    images: Float[Tensor, "m n 3 h w"], masked: Bool[Tensor, "m n h w"], seeds: Int64[Tensor, "m n"]
) -> Float[Tensor, "m n 3 h w"]:
    """Replace masked pixels by noise, uniform in [-1, 1), a hash of (seed, channel, pixel); in place.

    Args:
        images: normalised.
        masked: which pixels.
        seeds: 32-bit, one a view.
    """
    view, picture, row, column = masked.nonzero(as_tuple=True)
    pixel = row * masked.shape[3] + column
    for channel in range(images.shape[2]):
        mixed = hash32(hash32(pixel * images.shape[2] + channel) ^ seeds[view, picture])
        images[view, picture, channel, row, column] = (mixed.double() * 2.0**-31 - 1).to(images.dtype)
    return images

"""Region maps of views, on their device: mutual ids, masking, noise. No loop over regions, no random state."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from vice.data_specs.regions import IGNORE
from vice.pipeline.loader.counters import hash32
from vice.pipeline.loader.noise import noise_table, noise_window


class ViewRegions(NamedTuple):
    """Regions that exist in all views of a picture, numbered anew, and what is masked."""

    regions: Int32[Tensor, "m n h w"]
    num_regions: Int64[Tensor, " n"]
    region_ids: Int64[Tensor, "n r"]
    masked: Bool[Tensor, "m n h w"]


def view_regions(
    ids: Int32[Tensor, "m n h w"],
    shares: Float[Tensor, "m n"],
    seeds: Int64[Tensor, "v n"],
    *,
    max_regions: int,
    min_pixels: int = 1,
) -> ViewRegions:
    """Number the regions that exist in all views 0.. per picture in the order of their ids; mask whole regions.

    Args:
        ids: region ids of the layer, as cropped.
        shares: of each view's area that masked regions may cover.
        seeds: 32-bit; m rows for the views' masking and a last one for the choice among too many regions.
        max_regions: at most so many a picture.
        min_pixels: a region must have so many pixels in every view.
    """
    num_views, num_pictures, height, width = ids.shape
    num_ids = int(ids.max()) + 1
    # one number for each (view, picture, region): one pass counts all of them, one looks all of them up
    first = torch.arange(num_views * num_pictures, device=ids.device) * num_ids
    small = num_views * num_pictures * num_ids < 2**31
    place = (ids + first.to(torch.int32 if small else torch.int64).view(num_views, num_pictures, 1, 1)).flatten()
    counts = torch.bincount(place, minlength=len(first) * num_ids).view(num_views, num_pictures, num_ids)
    mutual = mutual_regions(counts, seeds[-1], max_regions=max_regions, min_pixels=min_pixels)
    number, num_regions, region_ids = _numbered(mutual)
    hidden = masked_regions(counts, shares, seeds[:-1], area=height * width)
    regions = number.expand(num_views, -1, -1).flatten().index_select(0, place).view_as(ids)
    return ViewRegions(regions, num_regions, region_ids, hidden.flatten().index_select(0, place).view_as(ids))


def mutual_regions(
    counts: Int64[Tensor, "m n r"], seeds: Int64[Tensor, " n"], *, max_regions: int, min_pixels: int = 1
) -> Bool[Tensor, "n r"]:
    """Which regions exist in all views; `max_regions` of them by their hashes where there are more.

    Args:
        counts: pixels of every region in every view.
        seeds: 32-bit, one a picture.
        max_regions: at most so many a picture.
        min_pixels: a region must have so many pixels in every view.
    """
    mutual = (counts >= min_pixels).all(0)
    if int(mutual.sum(1).max()) <= max_regions:
        return mutual
    region = torch.arange(mutual.shape[1], device=mutual.device)
    order = torch.where(mutual, hash32(region ^ seeds[:, None]), 1 << 32)
    rank = order.argsort(dim=1, stable=True).argsort(dim=1)
    return mutual & (rank < max_regions)


def _numbered(
    mutual: Bool[Tensor, "n r"],
) -> tuple[Int32[Tensor, "n r"], Int64[Tensor, " n"], Int64[Tensor, "n most"]]:
    """New number of every region (IGNORE where it is not mutual), how many there are, and their ids (-1 beyond)."""
    num_regions = mutual.sum(1)
    number = torch.where(mutual, mutual.cumsum(1) - 1, IGNORE)
    most = max(int(num_regions.max()), 1)
    region_ids = torch.full((len(mutual), most), -1, dtype=torch.int64, device=mutual.device)
    picture, region = mutual.nonzero(as_tuple=True)
    region_ids[picture, number[picture, region]] = region
    return number.to(torch.int32), num_regions, region_ids


def masked_regions(
    counts: Int64[Tensor, "m n r"], shares: Float[Tensor, "m n"], seeds: Int64[Tensor, "m n"], *, area: int
) -> Bool[Tensor, "m n r"]:
    """Choose whole regions in the order of their hashes, as long as together they stay within the view's share.

    Args:
        counts: pixels of every region in every view.
        shares: of the view's area, 0..1, never exceeded.
        seeds: 32-bit, one a view.
        area: of a view, in pixels.
    """
    region = torch.arange(counts.shape[2], device=counts.device)
    order = torch.where(counts > 0, hash32(region ^ seeds[..., None]), 1 << 32).argsort(dim=2, stable=True)
    covered = counts.gather(2, order).cumsum(2)
    budget = (shares.double() * area).long()
    return torch.zeros_like(counts, dtype=torch.bool).scatter_(2, order, covered <= budget[..., None])


def fill_with_noise(
    images: Float[Tensor, "m n 3 h w"], masked: Bool[Tensor, "m n h w"], seeds: Int64[np.ndarray, "m n"]
) -> None:
    """Replace masked pixels by noise, uniform in [-1, 1), in place.

    Args:
        images: normalised.
        masked: which pixels.
        seeds: 32-bit, one a view: which window of the noise table it takes, as [3, h, w].
    """
    shape = images.shape[2:]
    table = _noise_on(shape.numel(), images.dtype, images.device)
    for view, picture in np.ndindex(*images.shape[:2]):
        noise = table[noise_window(int(seeds[view, picture]), shape.numel())].view(shape)
        _overwrite(images[view, picture], noise, masked[view, picture])


def _overwrite(image: Float[Tensor, "c h w"], noise: Float[Tensor, "c h w"], masked: Bool[Tensor, "h w"]) -> None:
    if image.is_cuda:
        torch.where(masked, noise, image, out=image)
        return
    # NumPy touches the masked pixels only: seven times as fast as torch's `where`; it does not know bfloat16
    whole = torch.float32 if image.element_size() == 4 else torch.int16
    np.copyto(image.view(whole).numpy(), noise.view(whole).numpy(), where=masked.numpy())


@lru_cache(maxsize=4)
def _noise_on(count: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, " r"]:
    return torch.from_numpy(noise_table(count)).to(device, dtype)

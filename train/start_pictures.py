"""Training pictures for the start of a run: region means of the encoder's maps, and the teacher's vectors of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.data_specs.regions import IGNORE, grid_cell
from vice.pipeline.loader.grid import grid_ids
from vice.pipeline.region_vectors import RegionVectors
from vice.pipeline.shards import Shards
from vice.train.network.encoders import Encoder
from vice.train.network.pooling import pool_regions, region_weights
from vice.train.start import PictureRegions

MAX_PICTURES, MIN_PICTURES, MAX_PIXELS = 400, 16, 100_000_000
"""Evenly spaced over the shards: as many as have so many pixels together, within these limits."""
SMALLEST_CELL = 8
"""Side of the cells, in pixels, that stand for regions where a run takes finer ones (`pixel`)."""


def start_pictures(
    encoder: Encoder, shards: Shards, regions: str, teacher: RegionVectors | None
) -> Iterator[PictureRegions]:
    """Regions of evenly spaced whole pictures as the encoder sees them, in evaluation mode.

    Args:
        encoder: with its pretrained weights; its mode is put back at the end.
        shards: what is trained on.
        regions: layer, or a grid.
        teacher: vectors of that layer.

    Raises:
        WorkError: a sample or its vectors cannot be read.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        for number in chosen_pictures(shards.sizes):
            picture, ids = _read(shards, regions, number)
            own = region_means(encoder, picture, ids)
            yield PictureRegions(own, None if teacher is None else torch.from_numpy(teacher.of_sample(number).copy()))
    finally:
        encoder.train(was_training)


def chosen_pictures(sizes: np.ndarray) -> Sequence[int]:
    """Evenly spaced numbers of pictures with the given [n, 2] sizes."""
    count = int(np.clip(MAX_PIXELS // max(1, sizes.prod(axis=1).mean()), MIN_PICTURES, MAX_PICTURES))
    return np.unique(np.linspace(0, len(sizes) - 1, min(count, len(sizes))).round().astype(int)).tolist()


def _read(shards: Shards, regions: str, number: int) -> tuple[UInt8[np.ndarray, "h w 3"], Int32[np.ndarray, "h w"]]:
    cell = grid_cell(regions)
    if cell is None:
        layer = shards.layer_named(regions)
        sample = shards.sample(number, layers=[layer])
        return sample.picture, sample.regions[layer].astype(np.int32)
    picture = shards.sample(number, layers=[]).picture
    return picture, grid_ids(picture.shape[1], picture.shape[0], max(cell, SMALLEST_CELL))


@torch.no_grad()
def region_means(
    encoder: Encoder, picture: UInt8[np.ndarray, "h w 3"], ids: Int32[np.ndarray, "h w"]
) -> Float[Tensor, "r c"]:
    """Mean over every region of the encoder's bilinearly upsampled maps, concatenated; on the CPU.

    Args:
        encoder: in evaluation mode.
        picture: RGB.
        ids: regions 0..r-1 of its pixels, all of them used.
    """
    device = next(encoder.parameters()).device
    height, width = picture.shape[:2]
    below, right = -height % encoder.size_multiple, -width % encoder.size_multiple
    padded = np.pad(picture, ((0, below), (0, right), (0, 0)), mode="symmetric")
    images = torch.from_numpy(padded).to(device).permute(2, 0, 1)[None].float() / 255
    mean, deviation = (torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    maps = encoder(((images - mean) / deviation).contiguous(memory_format=torch.channels_last))
    # padding belongs to no region
    regions = F.pad(torch.from_numpy(ids), (0, right, 0, below), value=IGNORE)[None, None].to(device)
    count = int(ids.max()) + 1
    means = [
        pool_regions(features[None].float(), region_weights(regions, count, tuple(features.shape[2:])), count)[0, 0]
        for features in maps
    ]
    return torch.cat(means, dim=1).cpu()

"""The batch: what every reader hands to whoever trains."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float16, Int32, Int64
from torch import Tensor


class BatchFormat(NamedTuple):
    """How a batch's pictures lie in memory; the views are the same."""

    dtype: torch.dtype = torch.float32
    """float32 or bfloat16."""
    channels_last: bool = False
    """Whether a view's channels lie beside each other, as torch's `channels_last`."""


FLOAT32 = BatchFormat()
"""float32, channels first."""


class Batch(NamedTuple):
    """M views of each of N pictures, with their regions."""

    images: Float[Tensor, "m n 3 h w"]
    """Normalised by IMAGE_MEAN and IMAGE_STD; masked pixels are noise, uniform in [-1, 1]; see BatchFormat."""
    regions: Int32[Tensor, "m n h w"]
    """Ids of mutual regions, 0..num_regions-1 per picture and the same in all its views; IGNORE elsewhere."""
    num_regions: Int64[Tensor, " n"]
    """Mutual regions of each picture; 0 where it has none."""
    region_ids: Int64[Tensor, "n r"]
    """The stored layer's id (or the grid cell's number) of each mutual region; -1 beyond num_regions."""
    masked: Bool[Tensor, "m n h w"]
    """Pixels replaced by noise; whole regions."""
    teacher: Float16[Tensor, "n r t"] | None
    """The teacher's vectors of the regions in `region_ids`, 0 beyond num_regions; None for a loader without teacher."""
    keys: list[str]
    """Keys of the N samples."""

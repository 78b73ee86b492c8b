"""A linear map of an encoder's standardised maps: the embedding of a run at step 0 (`model.start=encoder`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LinearMaps(nn.Module):
    """Standardise every channel of every map, concatenate the maps at the finest one's size, apply a 1×1 convolution.

    Computed map by map before the upsampling, with which linear maps commute. It starts at zero: `train.start` fits it.

    Args:
        channels: of every map, the finest first; c in all.
        dim: length of an embedding (d).
    """

    def __init__(self, channels: Sequence[int], dim: int):
        super().__init__()
        total = sum(channels)
        self._ends = [0, *accumulate(channels)]
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("deviation", torch.ones(total))
        self.weight = nn.Parameter(torch.zeros(dim, total))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, maps: Sequence[Tensor]) -> Float[Tensor, "v d h4 w4"]:
        """The embedding, of the first map's size."""
        weight = self.weight / self.deviation
        bias = self.bias - weight @ self.mean
        fine = F.conv2d(maps[0], weight[:, : self._ends[1], None, None], bias)
        for first, last, features in zip(self._ends[1:], self._ends[2:], maps[1:], strict=False):
            coarse = F.conv2d(features, weight[:, first:last, None, None])
            fine = fine + F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return fine

"""A backbone's maps as one embedding: upsampled to the finest stride and concatenated, raw or standardised and reduced.

Standardisation and PCA are affine, and bilinear weights sum to one: both are applied to each map before it is
upsampled, which gives what they would give on the concatenated map, with far fewer multiplications.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from vice.evaluate.encoders.network import PictureInput
from vice.evaluate.encoders.protocol import num_cells
from vice.train.network.encoders import Encoder as Backbone


class BackboneMaps:
    """A backbone's maps of pictures. Those of the last batch are kept: encoders made from them share one forward pass.

    Args:
        backbone: of `build_backbone`.
        device: where to run it.
    """

    def __init__(self, backbone: Backbone, *, device: torch.device):
        self.strides, self.channels = backbone.strides, backbone.channels
        self._backbone = backbone.eval().to(device, memory_format=torch.channels_last)
        self._input = PictureInput(backbone.size_multiple, device)
        self._pictures: np.ndarray | None = None
        self._maps: list[Tensor] = []

    def of(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> list[Tensor]:
        """Maps [n, channels, rows, columns] of RGB pictures of one size, padded to what the backbone takes."""
        if self._pictures is None or not np.array_equal(self._pictures, pictures):
            with torch.inference_mode():
                parts = [self._backbone(images) for images in self._input.parts(pictures)]
                self._maps = [torch.cat(level).float() for level in zip(*parts, strict=True)]
            self._pictures = pictures.copy()
        return self._maps


class LevelsEncoder:
    """A backbone's maps as they are, upsampled bilinearly to the finest stride and concatenated.

    Args:
        name: as results call it.
        maps: of the backbone; may be shared with other encoders.
    """

    def __init__(self, name: str, maps: BackboneMaps):
        self.name, self.stride = name, min(maps.strides)
        self.maps = maps

    @property
    def dim(self) -> int:
        """Values per cell."""
        return sum(self.maps.channels)

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size; see `Encoder.embed`."""
        cells = num_cells(*pictures.shape[1:3], self.stride)
        with torch.inference_mode():
            return self._combined(self.maps.of(pictures), cells).cpu().numpy()

    def _combined(self, maps: list[Tensor], cells: tuple[int, int]) -> Float32[Tensor, "n d gh gw"]:
        return _concatenated(maps, cells)


class FittedLevels(LevelsEncoder):
    """A backbone's maps with every channel standardised and, with `components`, reduced to their directions.

    Args:
        name: as results call it.
        maps: of the backbone; may be shared with other encoders.
        mean: of every channel of the concatenated map.
        deviation: likewise, without zeros.
        components: directions that standardised vectors are projected onto; None keeps all channels.
    """

    def __init__(
        self,
        name: str,
        maps: BackboneMaps,
        *,
        mean: Float64[np.ndarray, " c"],
        deviation: Float64[np.ndarray, " c"],
        components: Float64[np.ndarray, "d c"] | None = None,
    ):
        super().__init__(name, maps)
        self.mean, self.deviation, self.components = mean, deviation, components

    @property
    def dim(self) -> int:
        """Values per cell."""
        return super().dim if self.components is None else len(self.components)

    def _combined(self, maps: list[Tensor], cells: tuple[int, int]) -> Float32[Tensor, "n d gh gw"]:
        ends = np.cumsum(self.maps.channels)
        parts = [slice(end - count, end) for end, count in zip(ends, self.maps.channels, strict=True)]
        centred = [one - _on(one, self.mean[part])[:, None, None] for one, part in zip(maps, parts, strict=True)]
        if self.components is None:
            scaled = (one / _on(one, self.deviation[of])[:, None, None] for one, of in zip(centred, parts, strict=True))
            return _concatenated(list(scaled), cells)
        weights = self.components / self.deviation
        size, whole = _finest(maps), None
        for one, part in zip(centred, parts, strict=True):
            reduced = F.conv2d(one, _on(one, weights[:, part])[:, :, None, None])
            fine = _upsampled(reduced, size, cells)
            whole = fine if whole is None else whole + fine
        return whole


def _on(like: Tensor, values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(like.device)


def _concatenated(maps: list[Tensor], cells: tuple[int, int]) -> Float32[Tensor, "n d gh gw"]:
    """Maps at the finest one's stride, cut to the cells of the picture; one upsampled map at a time is in memory."""
    size = _finest(maps)
    whole = maps[0].new_empty((len(maps[0]), sum(one.shape[1] for one in maps), *cells))
    first = 0
    for one in maps:
        whole[:, first : first + one.shape[1]] = _upsampled(one, size, cells)
        first += one.shape[1]
    return whole


def _finest(maps: list[Tensor]) -> tuple[int, int]:
    return max(tuple(one.shape[2:]) for one in maps)


def _upsampled(one: Tensor, size: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    if tuple(one.shape[2:]) != size:
        one = F.interpolate(one, size, mode="bilinear", align_corners=False)
    return one[:, :, : cells[0], : cells[1]]

"""Networks of torch as encoders: pictures become normalised batches, and a dense model's maps become arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.evaluate.encoders.protocol import num_cells, pad_by_reflection

CPU_PIXELS = 1 << 18
"""Of the pictures that a CPU runs a network on at a time; with four times as many its caches overflow, and 320×240
pictures take 1.4 times as long."""


class PictureInput:
    """Pictures as a network takes them; sides are padded by reflection, right and below.

    Args:
        size_multiple: what the sides of the network's input must be multiples of.
        device: where the network runs.
    """

    def __init__(self, size_multiple: int, device: torch.device):
        self._size_multiple, self._device = size_multiple, device
        # (x / 255 - mean) / std as one multiplication and one addition.
        mean, std = torch.tensor(IMAGE_MEAN, device=device), torch.tensor(IMAGE_STD, device=device)
        self._scale, self._shift = (1 / (255 * std))[:, None, None], (-mean / std)[:, None, None]

    def __call__(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[Tensor, "n 3 ph pw"]:
        """Normalised images of RGB pictures of one size."""
        # where the deepest map is a single cell, normalising layers refuse a mean of one value
        multiple = self._size_multiple * (2 if max(pictures.shape[1:3]) <= self._size_multiple else 1)
        padded = torch.from_numpy(pad_by_reflection(pictures, multiple)).to(self._device)
        # A permuted view of NHWC memory is what torch calls channels_last: the layout convolutions are fastest in.
        return padded.permute(0, 3, 1, 2) * self._scale + self._shift

    def parts(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Iterator[Float32[Tensor, "m 3 ph pw"]]:
        """Normalised images of as many pictures at a time as suit the device."""
        height, width = pictures.shape[1:3]
        per_part = max(1, CPU_PIXELS // (height * width)) if self._device.type == "cpu" else len(pictures)
        for first in range(0, len(pictures), per_part):
            yield self(pictures[first : first + per_part])


class NetworkEncoder:
    """A network as an encoder; sides are padded by reflection, right and below, to what the network takes.

    Args:
        name: as results call it.
        model: maps normalised float32 images [n, 3, h, w] to [n, d, h / stride, w / stride], in eval mode.
        stride: picture pixels per cell of its maps.
        size_multiple: what the sides of the model's input must be multiples of, a multiple of the stride.
        device: where to run it.
    """

    def __init__(self, name: str, model: nn.Module, *, stride: int, size_multiple: int, device: torch.device):
        self.name, self.stride = name, stride
        self._model = model.to(device, memory_format=torch.channels_last)
        self._input = PictureInput(size_multiple, device)

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size; see `Encoder.embed`."""
        rows, columns = num_cells(*pictures.shape[1:3], self.stride)
        with torch.inference_mode():
            embeddings = torch.cat([self._model(images) for images in self._input.parts(pictures)])
        return embeddings[:, :, :rows, :columns].float().cpu().numpy()

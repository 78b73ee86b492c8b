"""Networks of torch as encoders: a dense model of ours, or the last map of any backbone."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.evaluate.encoders.protocol import num_cells, pad_by_reflection


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
        self._size_multiple = size_multiple
        self._device = device
        # (x / 255 - mean) / std as one multiplication and one addition.
        mean, std = torch.tensor(IMAGE_MEAN, device=device), torch.tensor(IMAGE_STD, device=device)
        self._scale, self._shift = (1 / (255 * std))[:, None, None], (-mean / std)[:, None, None]

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size; see `Encoder.embed`."""
        rows, columns = num_cells(*pictures.shape[1:3], self.stride)
        # where the deepest map is a single cell, normalising layers refuse a mean of one value
        multiple = self._size_multiple * (2 if max(pictures.shape[1:3]) <= self._size_multiple else 1)
        padded = torch.from_numpy(pad_by_reflection(pictures, multiple)).to(self._device)
        with torch.inference_mode():
            # A permuted view of NHWC memory is what torch calls channels_last: the layout convolutions are fastest in.
            embeddings = self._model(padded.permute(0, 3, 1, 2) * self._scale + self._shift)
        return embeddings[:, :, :rows, :columns].float().cpu().numpy()


class LastMap(nn.Module):
    """A backbone's last map as a dense model: for networks without a decoder of ours."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n d gh gw"]:
        """The map of normalised images."""
        return self.backbone(images)[-1]

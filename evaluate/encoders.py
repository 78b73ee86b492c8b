"""Encoders: pictures in, embedding maps out. The checkpoint, its own architecture untrained, and raw colour + position.

An evaluation takes any object with this protocol; a number means little without the two baselines beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import nn

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.evaluate.names import COLOUR_POSITION, TRAINED, UNTRAINED
from vice.train.records.checkpoint import Checkpoint, load_model

STRIDE = 4
"""Picture pixels per cell of every embedding map."""


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns pictures into embedding maps."""

    name: str
    """As results call it."""

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size: gh = ceil(h / STRIDE) and gw = ceil(w / STRIDE) cells.

        Cell (i, j) stands for the pixels from (STRIDE i, STRIDE j) on; those past the picture's edge are padding.
        """
        ...


class ModelEncoder:
    """A dense model as an encoder; sides are padded by reflection, right and below, to what the model takes.

    Args:
        name: as results call it.
        model: maps normalised float32 images [n, 3, h, w] to [n, d, h / STRIDE, w / STRIDE], in eval mode.
        size_multiple: what the sides of the model's input must be multiples of, a multiple of STRIDE.
        device: where to run it.
    """

    def __init__(self, name: str, model: nn.Module, *, size_multiple: int, device: torch.device):
        self.name = name
        self._model = model.to(device, memory_format=torch.channels_last)
        self._size_multiple = size_multiple
        self._device = device
        # (x / 255 - mean) / std as one multiplication and one addition.
        mean, std = torch.tensor(IMAGE_MEAN, device=device), torch.tensor(IMAGE_STD, device=device)
        self._scale, self._shift = (1 / (255 * std))[:, None, None], (-mean / std)[:, None, None]

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size; see `Encoder.embed`."""
        rows, columns = (-(-side // STRIDE) for side in pictures.shape[1:3])
        padded = torch.from_numpy(pad_by_reflection(pictures, self._size_multiple)).to(self._device)
        with torch.inference_mode():
            # A permuted view of NHWC memory is what torch calls channels_last: the layout convolutions are fastest in.
            embeddings = self._model(padded.permute(0, 3, 1, 2) * self._scale + self._shift)
        return embeddings[:, :, :rows, :columns].float().cpu().numpy()


class ColourPositionEncoder:
    """Red, green, blue (0..1, mean over the cell) and x, y (0..1, centre of the cell): what needs no network at all."""

    name = COLOUR_POSITION

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size as d = 5 values a cell; see `Encoder.embed`."""
        n, height, width, _ = pictures.shape
        cells = pad_by_reflection(pictures, STRIDE)
        rows, columns = cells.shape[1] // STRIDE, cells.shape[2] // STRIDE
        cells = cells.reshape(n, rows, STRIDE, columns, STRIDE, 3)
        embeddings = np.empty((n, 5, rows, columns), np.float32)
        embeddings[:, :3] = cells.mean(axis=(2, 4), dtype=np.float32).transpose(0, 3, 1, 2) / 255
        embeddings[:, 3] = (np.arange(columns) + 0.5) * STRIDE / width
        embeddings[:, 4] = ((np.arange(rows) + 0.5) * STRIDE / height)[:, None]
        return embeddings


def pad_by_reflection(pictures: UInt8[np.ndarray, "n h w 3"], multiple: int) -> UInt8[np.ndarray, "n ph pw 3"]:
    """Extend the sides, right and below, to multiples by mirroring at the edge, however small the picture is."""
    below, right = (-side % multiple for side in pictures.shape[1:3])
    return np.pad(pictures, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect") if below or right else pictures


def checkpoint_encoders(checkpoint: Checkpoint, *, device: torch.device) -> list[Encoder]:
    """The encoders of one evaluation: the checkpoint, the same network with its initial weights, colour + position.

    Raises:
        InputError: the checkpoint's model cannot be built.
    """

    def models() -> Iterator[ModelEncoder]:
        for name, trained in ((TRAINED, True), (UNTRAINED, False)):
            model = load_model(checkpoint, trained=trained)
            yield ModelEncoder(name, model, size_multiple=model.size_multiple, device=device)

    return [*models(), ColourPositionEncoder()]

"""What every evaluation takes: an object that turns pictures into embedding maps."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from vice.data_specs.errors import WorkError


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns pictures into embedding maps."""

    name: str
    """As results call it."""
    stride: int
    """Picture pixels per cell of its maps."""

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size: gh = ceil(h / stride) and gw = ceil(w / stride) cells.

        Cell (i, j) stands for the pixels from (stride i, stride j) on; those past the picture's edge are padding.
        """
        ...


def check_finite(embedding: Float32[np.ndarray, "d gh gw"], *, name: str, where: str) -> None:
    """Refuse a map with values that are not finite.

    Args:
        embedding: of one picture.
        name: of the encoder.
        where: the picture's key, for the message.

    Raises:
        WorkError: there is one.
    """
    if not np.isfinite(embedding).all():
        what = f"the encoder ({name}) gave values that are not finite for this picture"
        raise WorkError(what, where=where, hint="check its weights")


def num_cells(height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns of the embedding map of a picture."""
    return -(-height // stride), -(-width // stride)


def pad_by_reflection(pictures: UInt8[np.ndarray, "n h w 3"], multiple: int) -> UInt8[np.ndarray, "n ph pw 3"]:
    """Extend the sides, right and below, to multiples by mirroring at the edge, however small the picture is."""
    below, right = (-side % multiple for side in pictures.shape[1:3])
    return np.pad(pictures, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect") if below or right else pictures

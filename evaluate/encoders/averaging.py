"""The mean of several looks at a picture: at other sizes, and mirrored."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8

from vice.evaluate.encoders.protocol import Encoder, num_cells


class AveragedEncoder:
    """An encoder whose maps are means over resized and mirrored pictures; vectors are not normalised again.

    Args:
        encoder: embeds every look.
        scales: factors of both sides.
        flip: mirror every size as well.
    """

    def __init__(self, encoder: Encoder, *, scales: Sequence[float] = (1.0,), flip: bool = False):
        self.name, self.stride = encoder.name, encoder.stride
        self._encoder, self._scales, self._flip = encoder, tuple(scales), flip

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size; see `Encoder.embed`."""
        size = pictures.shape[1:3]
        looks = 0
        whole: np.ndarray | None = None
        for scale in self._scales:
            scaled = _resized(pictures, scale)
            for mirrored in (False, True) if self._flip else (False,):
                found = self._encoder.embed(np.ascontiguousarray(scaled[:, :, ::-1]) if mirrored else scaled)
                found = _brought_to(found, size, scaled.shape[1:3], self.stride, mirrored=mirrored)
                whole = found if whole is None else whole + found
                looks += 1
        return whole / np.float32(looks)


def _resized(pictures: UInt8[np.ndarray, "n h w 3"], scale: float) -> UInt8[np.ndarray, "n h2 w2 3"]:
    if scale == 1:
        return pictures
    height, width = (max(1, round(side * scale)) for side in pictures.shape[1:3])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.stack([cv2.resize(picture, (width, height), interpolation=method) for picture in pictures])


def _brought_to(
    maps: Float32[np.ndarray, "n d rows columns"],
    size: tuple[int, int],
    seen: tuple[int, int],
    stride: int,
    *,
    mirrored: bool,
) -> Float32[np.ndarray, "n d gh gw"]:
    """Maps of pictures of the size that was seen, sampled at the cell centres of pictures of another size."""
    cells = num_cells(*size, stride)
    if not mirrored and tuple(maps.shape[2:]) == cells and seen == size:
        return maps
    axes = []
    for side, now, count in zip(size, seen, cells, strict=True):
        centres = (np.arange(count) + 0.5) * stride * (now / side)
        axes.append(centres)
    if mirrored:
        axes[1] = seen[1] - axes[1]
    # grid_sample's coordinates without aligned corners: -1 and 1 are the outer edges of the first and last cell
    rows, columns = (2 * centres / (stride * of_map) - 1 for centres, of_map in zip(axes, maps.shape[2:], strict=True))
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).astype(np.float32)
    grids = torch.from_numpy(grid)[None].expand(len(maps), -1, -1, -1)
    return F.grid_sample(
        torch.from_numpy(maps), grids, mode="bilinear", padding_mode="border", align_corners=False
    ).numpy()

"""Large pictures by tiles: one window through the network at a time, blended where windows overlap."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from vice.evaluate.encoders.protocol import Encoder, num_cells

ALIGNMENT = 64
"""Windows begin at multiples of so many pixels: a multiple of every network's coarsest stride and cell size."""


class TiledEncoder:
    """An encoder that takes large pictures window by window; those no larger than a tile pass as they are.

    Windows overlap. In an overlap the weight of each window rises linearly from its inner edge, where the network has
    seen least of the surroundings, so that there is no seam; a quarter of the overlap next to the edge has no weight.
    Memory beside the map is that of one window.

    Args:
        encoder: embeds the windows.
        tile: side of a window in pixels, rounded up to a multiple of ALIGNMENT.
        overlap: of neighbouring windows in pixels, at least; rounded up likewise. Half a tile by default: networks that
            use the whole picture leave a step to be seen in plain sky with an overlap of 128.
    """

    def __init__(self, encoder: Encoder, *, tile: int, overlap: int | None = None):
        self.name, self.stride = encoder.name, encoder.stride
        self._encoder = encoder
        self._overlap = _up(tile // 2 if overlap is None else overlap)
        self._tile = max(_up(tile), 2 * self._overlap)

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size; see `Encoder.embed`."""
        height, width = pictures.shape[1:3]
        if max(height, width) <= self._tile:
            return self._encoder.embed(pictures)
        return np.stack([self._one(picture) for picture in pictures])

    def _one(self, picture: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "d gh gw"]:
        height, width = picture.shape[:2]
        rows, columns = self._windows(height), self._windows(width)
        whole, total = None, np.zeros(num_cells(height, width, self.stride), np.float32)
        for top, bottom in rows:
            for left, right in columns:
                window = np.ascontiguousarray(picture[None, top:bottom, left:right])
                part = self._encoder.embed(window)[0]
                if whole is None:
                    whole = np.zeros((len(part), *total.shape), np.float32)
                weight = np.outer(self._ramp(top, bottom, height), self._ramp(left, right, width))
                first = top // self.stride, left // self.stride
                place = tuple(slice(f, f + cells) for f, cells in zip(first, part.shape[1:], strict=True))
                whole[(slice(None), *place)] += weight * part
                total[place] += weight
        return whole / total

    def _windows(self, side: int) -> list[tuple[int, int]]:
        """First and end pixel of the windows along a side: evenly spread, aligned, the last one flush with the end."""
        if side <= self._tile:
            return [(0, side)]
        count = -(-(side - self._overlap) // (self._tile - self._overlap))
        last = (side - self._tile + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        starts = [round(number * last / (count - 1) / ALIGNMENT) * ALIGNMENT for number in range(count)]
        return [(start, min(start + self._tile, side)) for start in starts]

    def _ramp(self, first: int, end: int, side: int) -> Float32[np.ndarray, " cells"]:
        """Weights of a window's cells along a side; edges of the picture are no edges of the window."""
        cells = num_cells(end - first, 1, self.stride)[0]
        centres = (np.arange(cells) + 0.5) * self.stride
        margin, slope = self._overlap / 4, self._overlap / 2
        # never quite zero, so that cells that only this window covers have a weight
        before = np.clip((centres - margin) / slope, 1e-6, 1) if first > 0 else np.ones(cells)
        after = np.clip((end - first - centres - margin) / slope, 1e-6, 1) if end < side else np.ones(cells)
        return (before * after).astype(np.float32)


def _up(pixels: int) -> int:
    return -(-pixels // ALIGNMENT) * ALIGNMENT

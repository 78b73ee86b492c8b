"""Raw colour, alone and with the position: what needs no network at all. A number means little without them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from vice.evaluate.encoders.protocol import pad_by_reflection
from vice.evaluate.names import COLOUR, COLOUR_POSITION

STRIDE = 4
"""As of our networks' maps."""


class ColourEncoder:
    """Red, green, blue: 0..1, mean over the cell."""

    name, stride = COLOUR, STRIDE

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n 3 gh gw"]:
        """Embed RGB pictures of one size as d = 3 values a cell; see `Encoder.embed`."""
        cells = pad_by_reflection(pictures, STRIDE)
        n, rows, columns = len(cells), cells.shape[1] // STRIDE, cells.shape[2] // STRIDE
        cells = cells.reshape(n, rows, STRIDE, columns, STRIDE, 3)
        return np.ascontiguousarray(cells.mean(axis=(2, 4), dtype=np.float32).transpose(0, 3, 1, 2) / 255)


class ColourPositionEncoder:
    """Red, green, blue (0..1, mean over the cell) and x, y (0..1, centre of the cell)."""

    name, stride = COLOUR_POSITION, STRIDE

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n 5 gh gw"]:
        """Embed RGB pictures of one size as d = 5 values a cell; see `Encoder.embed`."""
        height, width = pictures.shape[1:3]
        colours = ColourEncoder().embed(pictures)
        n, _, rows, columns = colours.shape
        embeddings = np.empty((n, 5, rows, columns), np.float32)
        embeddings[:, :3] = colours
        embeddings[:, 3] = (np.arange(columns) + 0.5) * STRIDE / width
        embeddings[:, 4] = ((np.arange(rows) + 0.5) * STRIDE / height)[:, None]
        return embeddings

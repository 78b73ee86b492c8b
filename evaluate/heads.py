"""Affine heads on frozen embeddings, and the label maps they give at the picture's own resolution.

A linear probe (class logits) and nearest centroids (`argmin |x - c|² = argmax c·x - |c|²/2`) are both an affine map and
an argmax. Bilinear weights sum to one, so affine maps commute with upsampling: scoring the cells and upsampling the
scores gives what a 1×1 convolution on the upsampled embedding gives, without the upsampled embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64

from vice.evaluate.encoders import STRIDE

VALUES_AT_ONCE = 1 << 24
"""Scores held at a time (64 MiB as float32): large pictures are done in bands of rows."""


class AffineHead(NamedTuple):
    """Scores `weight x + bias`; the prediction is the place of the largest."""

    weight: Float32[np.ndarray, "k d"]
    bias: Float32[np.ndarray, " k"]

    def scores(self, embedding: Float32[np.ndarray, " d *cells"]) -> Float32[np.ndarray, " k *cells"]:
        """Scores of every cell, or of every column of a [d, n] matrix."""
        depth, *cells = embedding.shape
        return (self.weight @ embedding.reshape(depth, -1) + self.bias[:, None]).reshape(-1, *cells)

    def assign(self, vectors: Float32[np.ndarray, "n d"]) -> Int64[np.ndarray, " n"]:
        """The prediction of each vector."""
        per_part = max(1, VALUES_AT_ONCE // len(self.bias))
        parts = [vectors[first : first + per_part] for first in range(0, len(vectors), per_part)]
        return np.concatenate([self.scores(part.T).argmax(axis=0) for part in parts])


def nearest_centroid(centroids: Float32[np.ndarray, "k d"]) -> AffineHead:
    """The head whose prediction is the nearest centroid by Euclidean distance (the first of equals)."""
    return AffineHead(centroids, -0.5 * np.square(centroids).sum(axis=1))


def predict(
    head: AffineHead, embedding: Float32[np.ndarray, "d gh gw"], *, height: int, width: int
) -> Int64[np.ndarray, "height width"]:
    """The prediction at every pixel of a picture from its embedding map.

    The scores are upsampled bilinearly by STRIDE (pixel centres, `align_corners=False`) and cropped to the picture.
    """
    scores = torch.from_numpy(head.scores(embedding))
    num_scores, rows, columns = scores.shape
    band = max(1, VALUES_AT_ONCE // (num_scores * columns * STRIDE**2))
    parts = [_argmax_of_rows(scores, first, min(first + band, rows)) for first in range(0, rows, band)]
    return np.concatenate(parts)[:height, :width]


def _argmax_of_rows(scores: torch.Tensor, first: int, end: int) -> Int64[np.ndarray, "rows columns"]:
    # One more row of cells on either side gives the band the neighbours that the whole map would give it.
    above, below = min(first, 1), min(scores.shape[1] - end, 1)
    band = scores[None, :, first - above : end + below]
    fine = F.interpolate(band, scale_factor=STRIDE, mode="bilinear", align_corners=False)[0]
    return fine[:, above * STRIDE : fine.shape[1] - below * STRIDE].max(dim=0).indices.numpy()

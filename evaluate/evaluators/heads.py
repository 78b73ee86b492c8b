"""Heads on frozen embeddings, and the label maps they give at the picture's own resolution.

A linear probe (class logits) and nearest centroids (`argmin |x - c|² = argmax c·x - |c|²/2`) are both an affine map and
an argmax. Bilinear weights sum to one, so affine maps commute with upsampling: scoring the cells and upsampling the
scores gives what a 1×1 convolution on the upsampled embedding gives, without the upsampled embedding.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64

VALUES_AT_ONCE = 1 << 24
"""Scores held at a time (64 MiB as float32): predictions of many classes or large pictures are made in parts."""


@runtime_checkable
class Head(Protocol):
    """What turns an embedding map into scores of classes or clusters."""

    cells_a_side: int
    """Cells of the map, in both directions, that one score stands for."""

    @property
    def num_predictions(self) -> int:
        """How many values it tells apart (k)."""
        ...

    def scores(self, embedding: Float32[np.ndarray, "d gh gw"]) -> Float32[np.ndarray, "k rows columns"]:
        """Scores of a map already averaged over `cells_a_side`; the prediction is the place of the largest."""
        ...


class AffineHead(NamedTuple):
    """Scores `weight x + bias`; the prediction is the place of the largest."""

    weight: Float32[np.ndarray, "k d"]
    bias: Float32[np.ndarray, " k"]
    cells_a_side: int = 1

    @property
    def num_predictions(self) -> int:
        """Classes or clusters (k)."""
        return len(self.bias)

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
    """The head whose prediction is the nearest centroid by Euclidean distance (the first of equals).

    Scores are of vectors relative to the centroids' mean m: `argmax (c-m)·x - (c-m)·m - |c-m|²/2`. Without it a large
    common offset would leave float32 no digits for the differences.
    """
    mean = centroids.mean(axis=0, dtype=np.float64)
    weight = (centroids - mean).astype(np.float32)
    relative = weight.astype(np.float64)
    bias = -relative @ mean - 0.5 * np.square(relative).sum(axis=1)
    return AffineHead(weight, bias.astype(np.float32))


def pool_cells(embedding: Float32[np.ndarray, "d gh gw"], cells: int) -> Float32[np.ndarray, "d rows columns"]:
    """The map averaged over squares of cells; those at the right and lower edge hold what is left of it."""
    if cells == 1:
        return embedding
    return F.avg_pool2d(torch.from_numpy(embedding), cells, ceil_mode=True, count_include_pad=False).numpy()


def predict(
    head: Head,
    embedding: Float32[np.ndarray, "d gh gw"],
    *,
    stride: int,
    picture_size: tuple[int, int],
    size: tuple[int, int],
) -> Int64[np.ndarray, "height width"]:
    """The prediction at every pixel of a label map, from the embedding map of its picture.

    Scores are upsampled bilinearly (pixel centres, `align_corners=False`), once, from the map to the label map.

    Args:
        head: makes the scores.
        embedding: of the picture.
        stride: picture pixels per cell of the embedding.
        picture_size: height and width of the picture that was embedded.
        size: height and width of the label map.
    """
    scores = torch.from_numpy(head.scores(pool_cells(embedding, head.cells_a_side)))
    factors = [stride * head.cells_a_side * wide / narrow for wide, narrow in zip(size, picture_size, strict=True)]
    # a size that falls just below a whole number by rounding would lose the last row
    factors = [factor * (1 + 1e-9) for factor in factors]
    pixels = int(np.prod([cells * factor for cells, factor in zip(scores.shape[1:], factors, strict=True)]))
    at_once = max(1, VALUES_AT_ONCE // max(pixels, 1))
    best, places = None, None
    for first in range(0, len(scores), at_once):
        part = scores[None, first : first + at_once]
        fine = F.interpolate(part, scale_factor=factors, mode="bilinear", align_corners=False)[0]
        largest = fine[:, : size[0], : size[1]].max(dim=0)
        if best is None:
            best, places = largest.values, largest.indices
        else:
            higher = largest.values > best
            best = torch.where(higher, largest.values, best)
            places = torch.where(higher, largest.indices + first, places)
    return places.numpy()

"""Labelled vectors for fitting: embeddings at counter-drawn pixels of the train pictures, in bounded memory.

A vector is what bilinear upsampling of the embedding map would give at the pixel's centre, computed at the drawn pixels
alone; `predict` meets the validation pixels at the same positions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt16

from vice.data_specs.regions import IGNORE
from vice.evaluate.counters import raw_draws
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.options import Quota
from vice.evaluate.scenes import Scene


class Vectors(NamedTuple):
    """Drawn pixels of all train pictures, in the order of the pictures."""

    labels: UInt16[np.ndarray, " n"]
    """Class of each pixel, or IGNORE."""
    scenes: Int32[np.ndarray, " n"]
    """Number of the picture each pixel lies in."""
    embeddings: dict[str, Float32[np.ndarray, "n d"]]
    """Encoder's name to the vectors at these pixels."""


class PixelCollector:
    """Keeps the vectors at some pixels of every picture, the same pixels for all encoders.

    Memory is 4 d bytes for each pixel and encoder.

    Args:
        quota: pixels drawn per picture.
        seed: of the draw.
        labelled_only: draw among the labelled pixels, rather than among all (clusters are found without labels).
    """

    def __init__(self, *, quota: Quota, seed: int, labelled_only: bool):
        self._quota, self._seed, self._labelled_only = quota, seed, labelled_only
        self._drawn: dict[int, Int64[np.ndarray, " n"]] = {}
        self._labels: list[np.ndarray] = []
        self._scenes: list[np.ndarray] = []
        self._embeddings: dict[str, list[np.ndarray]] = {}

    def add(self, scene: Scene, encoder: Encoder, embedding: Float32[np.ndarray, "d gh gw"]) -> None:
        """Keep the vectors at the picture's drawn pixels."""
        if scene.number not in self._drawn:
            self._draw(scene)
        height, width = scene.labels.shape
        rows, columns = np.divmod(self._drawn[scene.number].astype(np.int64), width)
        # places in the label map as places in the picture that was embedded
        rows = (rows + 0.5) * (scene.picture.shape[0] / height) - 0.5
        columns = (columns + 0.5) * (scene.picture.shape[1] / width) - 0.5
        vectors = sample_bilinear(embedding, rows, columns, stride=encoder.stride)
        self._embeddings.setdefault(encoder.name, []).append(vectors)

    def _draw(self, scene: Scene) -> None:
        flat = scene.labels.reshape(-1)
        candidates = np.flatnonzero(flat != IGNORE) if self._labelled_only else np.arange(flat.size)
        drawn = draw_pixels(candidates, num_pixels=self._quota.of(scene.number), seed=self._seed, picture=scene.number)
        self._drawn[scene.number] = drawn.astype(np.int32)
        self._labels.append(flat[drawn])
        self._scenes.append(np.full(len(drawn), scene.number, np.int32))

    def vectors(self) -> Vectors:
        """All that was kept; to be asked once, after the pass."""
        embeddings = {name: np.concatenate(self._embeddings.pop(name)) for name in list(self._embeddings)}
        return Vectors(np.concatenate(self._labels), np.concatenate(self._scenes), embeddings)


def draw_pixels(
    candidates: Int64[np.ndarray, " n"], *, num_pixels: int, seed: int, picture: int
) -> Int64[np.ndarray, " drawn"]:
    """Draw `num_pixels` of the candidates without replacement (all where there are fewer), in ascending place.

    A function of (seed, picture, candidates): those with the smallest raw Philox draws.
    """
    if len(candidates) <= num_pixels:
        return candidates
    draws = raw_draws(seed, "pixels", picture, len(candidates))
    return candidates[np.sort(np.argpartition(draws, num_pixels)[:num_pixels])]


def sample_bilinear(
    embedding: Float32[np.ndarray, "d gh gw"], rows: np.ndarray, columns: np.ndarray, *, stride: int
) -> Float32[np.ndarray, "n d"]:
    """Embeddings at pixel centres, as upsampling the map by its stride (`align_corners=False`) gives them there.

    Args:
        embedding: of a picture.
        rows: n places in picture pixels, whole numbers at pixel centres.
        columns: as rows.
        stride: picture pixels per cell.
    """
    (top, bottom, down), (left, right, across) = (
        _neighbours(places, cells, stride)
        for places, cells in ((rows, embedding.shape[1]), (columns, embedding.shape[2]))
    )
    upper = embedding[:, top, left] * (1 - across) + embedding[:, top, right] * across
    lower = embedding[:, bottom, left] * (1 - across) + embedding[:, bottom, right] * across
    return np.ascontiguousarray((upper * (1 - down) + lower * down).T)


def _neighbours(pixels: np.ndarray, num_cells: int, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two cells whose centres enclose each pixel's centre, and the share of the second."""
    place = np.clip((pixels + 0.5) / stride - 0.5, 0, num_cells - 1)
    first = place.astype(np.int64)
    return first, np.minimum(first + 1, num_cells - 1), (place - first).astype(np.float32)

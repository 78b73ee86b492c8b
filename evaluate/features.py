"""Labelled vectors for fitting: embeddings at counter-drawn pixels of the train pictures, in bounded memory.

A vector is what bilinear upsampling of the embedding map would give at the pixel's centre, computed at the drawn pixels
alone; `predict` meets the validation pixels at the same positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt16

from vice.data_specs.regions import IGNORE
from vice.evaluate.counters import raw_draws
from vice.evaluate.encoders import STRIDE, Encoder
from vice.evaluate.scenes import Scene, in_batches


class Vectors(NamedTuple):
    """Drawn pixels of all train pictures, in the order of the pictures."""

    labels: UInt16[np.ndarray, " n"]
    """Class of each pixel, or IGNORE."""
    scenes: Int32[np.ndarray, " n"]
    """Number of the picture each pixel lies in."""
    embeddings: dict[str, Float32[np.ndarray, "n d"]]
    """Encoder's name to the vectors at these pixels."""


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
    embedding: Float32[np.ndarray, "d gh gw"], rows: Int64[np.ndarray, " n"], columns: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n d"]:
    """Embeddings at pixel centres, as upsampling the map by STRIDE (`align_corners=False`) gives them there."""
    (top, bottom, down), (left, right, across) = (
        _neighbours(places, cells) for places, cells in ((rows, embedding.shape[1]), (columns, embedding.shape[2]))
    )
    upper = embedding[:, top, left] * (1 - across) + embedding[:, top, right] * across
    lower = embedding[:, bottom, left] * (1 - across) + embedding[:, bottom, right] * across
    return np.ascontiguousarray((upper * (1 - down) + lower * down).T)


def _neighbours(pixels: Int64[np.ndarray, " n"], num_cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two cells whose centres enclose each pixel's centre, and the share of the second."""
    place = np.clip((pixels + 0.5) / STRIDE - 0.5, 0, num_cells - 1)
    first = place.astype(np.int64)
    return first, np.minimum(first + 1, num_cells - 1), (place - first).astype(np.float32)


def collect(
    scenes: Iterable[Scene], encoders: Sequence[Encoder], *, num_pixels: int, seed: int, labelled_only: bool
) -> Vectors:
    """Embed every scene once per encoder and keep the vectors at its drawn pixels, the same for all encoders.

    Args:
        scenes: the train pictures with their labels.
        encoders: each embeds every picture once.
        num_pixels: drawn per picture; memory is 4 d bytes for each, picture and encoder.
        seed: of the draw.
        labelled_only: draw among the labelled pixels, rather than among all (clusters are found without labels).
    """
    labels, numbers = [], []
    embeddings: dict[str, list[np.ndarray]] = {encoder.name: [] for encoder in encoders}
    for batch in in_batches(scenes):
        maps = {encoder.name: encoder.embed(np.stack([scene.picture for scene in batch])) for encoder in encoders}
        for place, scene in enumerate(batch):
            flat = scene.labels.reshape(-1)
            candidates = np.flatnonzero(flat != IGNORE) if labelled_only else np.arange(flat.size)
            drawn = draw_pixels(candidates, num_pixels=num_pixels, seed=seed, picture=scene.number)
            labels.append(flat[drawn])
            numbers.append(np.full(len(drawn), scene.number, np.int32))
            for name, of_batch in maps.items():
                embeddings[name].append(sample_bilinear(of_batch[place], *np.divmod(drawn, scene.labels.shape[1])))
    return Vectors(
        np.concatenate(labels),
        np.concatenate(numbers),
        {name: np.concatenate(parts) for name, parts in embeddings.items()},
    )

"""Labelled patches of the train pictures: means of their cells, and the shares of the classes in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from vice.data_specs.regions import IGNORE
from vice.evaluate.counters import raw_draws
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.evaluators.heads import pool_cells
from vice.evaluate.options import Quota
from vice.evaluate.scenes import Scene


class Memory(NamedTuple):
    """Labelled patches of one encoder."""

    vectors: Float32[np.ndarray, "n d"]
    shares: Float32[np.ndarray, "n c"]
    """Of the classes among a patch's labelled pixels."""


class PatchCollector:
    """Keeps some patches of every picture with the shares of the classes in them.

    Args:
        quota: patches drawn per picture from those with labelled pixels; memory is 4 (d + c) bytes each, per encoder.
        patch: side in picture pixels.
        seed: of the draw.
        num_classes: c.
    """

    def __init__(self, *, quota: Quota, patch: int, seed: int, num_classes: int):
        self._quota, self._patch, self._seed, self._num_classes = quota, patch, seed, num_classes
        self._parts: dict[str, list[Memory]] = {}
        self.cells_a_side: dict[str, int] = {}
        """Of a patch, by encoder."""

    def add(self, scene: Scene, encoder: Encoder, embedding: Float32[np.ndarray, "d gh gw"]) -> None:
        """Keep the vectors and class shares of the picture's drawn patches."""
        cells = max(1, round(self._patch / encoder.stride))
        self.cells_a_side[encoder.name] = cells
        pooled = pool_cells(embedding, cells)
        rows, columns = pooled.shape[1:]
        shares = patch_shares(scene, (rows, columns), side=cells * encoder.stride, num_classes=self._num_classes)
        places = np.flatnonzero(shares.any(axis=1))
        count = self._quota.of(scene.number)
        if len(places) > count:
            draws = raw_draws(self._seed, "patches", scene.number, rows * columns)[places]
            places = places[np.sort(np.argpartition(draws, count)[:count])]
        vectors = np.ascontiguousarray(pooled.reshape(len(pooled), -1)[:, places].T)
        self._parts.setdefault(encoder.name, []).append(Memory(vectors, shares[places]))

    def memories(self) -> dict[str, Memory]:
        """All that was kept, by encoder; to be asked once, after the pass."""
        kept = {name: self._parts.pop(name) for name in list(self._parts)}
        return {name: Memory(*map(np.concatenate, zip(*parts, strict=True))) for name, parts in kept.items()}


def patch_shares(
    scene: Scene, grid: tuple[int, int], *, side: int, num_classes: int
) -> Float32[np.ndarray, "patches c"]:
    """Shares of the classes among the labelled pixels of every patch, row by row; zeros where none is labelled.

    Args:
        scene: its label map may have another size than the picture that was embedded.
        grid: rows and columns of patches.
        side: of a patch, in pixels of the embedded picture.
        num_classes: c.
    """
    (height, width), picture = scene.labels.shape, scene.picture.shape
    rows = ((np.arange(height) + 0.5) * (picture[0] / height) / side).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * (picture[1] / width) / side).astype(np.int64)
    patches = rows[:, None] * grid[1] + columns
    labelled = scene.labels != IGNORE
    pairs = patches[labelled] * num_classes + scene.labels[labelled]
    counts = np.bincount(pairs, minlength=grid[0] * grid[1] * num_classes).reshape(-1, num_classes)
    return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)

"""Which regions are most typical of each concept, how much each is used, and for which classes; in bounded memory."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from vice.evaluate.atlas.region_embeddings import Regions

OF_ONE_PICTURE = 2
"""Most regions of one picture among a concept's typical ones: examples should come from different places."""


class Example(NamedTuple):
    """A region that is typical of a concept; sorted by similarity first."""

    similarity: float
    picture: int
    """Number in the shards, negative: of equals the first picture wins."""
    region: int


class Gatherer:
    """Takes in pictures one by one.

    Memory: 24 bytes for each of K concepts and examples kept, 8 for each of K concepts and C classes.

    Args:
        concepts: unit vectors [k, d].
        num_examples: kept for each.
        num_classes: C; 0 without labels.
    """

    def __init__(self, concepts: Float32[np.ndarray, "k d"], *, num_examples: int, num_classes: int):
        self._concepts, self._num_examples = concepts, num_examples
        self._heaps: list[list[Example]] = [[] for _ in concepts]
        self.area = np.zeros(len(concepts), np.int64)
        """Pixels of the regions nearest to each concept."""
        self.num_regions = np.zeros(len(concepts), np.int64)
        self.class_counts = np.zeros((len(concepts), num_classes), np.int64)

    def add(self, regions: Regions) -> None:
        """Take in a picture's regions."""
        scores = regions.embeddings @ self._concepts.T
        nearest = scores.argmax(axis=1)
        np.add.at(self.area, nearest, regions.areas)
        np.add.at(self.num_regions, nearest, 1)
        if regions.class_counts is not None:
            np.add.at(self.class_counts, nearest, regions.class_counts)
        for concept in np.unique(nearest).tolist():
            own = np.flatnonzero(nearest == concept)
            best = own[np.argsort(-scores[own, concept], kind="stable")[:OF_ONE_PICTURE]]
            for region in best.tolist():
                self._keep(concept, Example(float(scores[region, concept]), -regions.number, region))

    def _keep(self, concept: int, example: Example) -> None:
        heap = self._heaps[concept]
        if len(heap) < self._num_examples:
            heapq.heappush(heap, example)
        else:
            heapq.heappushpop(heap, example)

    def examples(self, concept: int) -> list[Example]:
        """The most typical regions, the most alike first."""
        return sorted(self._heaps[concept], reverse=True)

    def classes(self, concept: int, names: list[str]) -> dict[str, float]:
        """Classes of the concept's labelled pixels with their shares, largest first."""
        counts = self.class_counts[concept]
        total = max(int(counts.sum()), 1)
        return {names[c]: float(counts[c] / total) for c in np.argsort(-counts, kind="stable") if counts[c]}

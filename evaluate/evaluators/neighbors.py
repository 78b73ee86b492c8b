"""`neighbors`: dense in-context retrieval: the labelled train patches most like a patch vote on its class.

Nothing is fitted: an embedding is as good as what lies next to it (Balažević et al. 2023, section 3; Pariza et al.
2025). A patch is the mean of its cells, its label the shares of the classes among its labelled pixels. Embeddings are
centred by the memory's mean and compared by cosine: without that, most of what a random network's vectors, or colours,
have is one common direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32

from vice.data_specs.entries import Evaluation
from vice.data_specs.errors import InputError
from vice.data_specs.regions import IGNORE
from vice.evaluate.evaluators.kmeans import library, on_gpu
from vice.evaluate.evaluators.patches import Memory, PatchCollector
from vice.evaluate.evaluators.protocol import Heads, Setup, evaluation, score_heads
from vice.evaluate.gallery import Gallery
from vice.evaluate.options import NeighborSettings, Quota
from vice.evaluate.passes import Counts
from vice.evaluate.pictures import palette

LISTS_SEARCHED = 16
"""With inverted lists, one of so many is searched."""


class NeighborHead:
    """Scores are the shares that a patch's nearest neighbours in the memory vote for, weighted by likeness.

    Args:
        memory: labelled patches.
        settings: how many vote, and with which weights.
        cells_a_side: of a patch.
    """

    def __init__(self, memory: Memory, settings: NeighborSettings, *, cells_a_side: int):
        self.cells_a_side = cells_a_side
        self._settings, self._shares = settings, memory.shares
        self._mean = memory.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._index = _index_of(self._unit(memory.vectors), settings)

    @property
    def num_predictions(self) -> int:
        """Classes (c)."""
        return self._shares.shape[1]

    def scores(self, embedding: Float32[np.ndarray, "d rows columns"]) -> Float32[np.ndarray, "c rows columns"]:
        """Votes on every patch of a map already averaged over `cells_a_side`; they sum to 1."""
        depth, *patches = embedding.shape
        queries = self._unit(np.ascontiguousarray(embedding.reshape(depth, -1).T))
        likeness, neighbors = self._index.search(queries, min(self._settings.num_neighbors, len(self._shares)))
        # inverted lists may hold fewer than asked: those places say -1
        likeness = np.where(neighbors < 0, -np.inf, likeness)
        weights = np.exp((likeness - likeness.max(axis=1, keepdims=True)) / self._settings.temperature)
        weights /= weights.sum(axis=1, keepdims=True)
        votes = np.einsum("qk,qkc->cq", weights.astype(np.float32), self._shares[np.maximum(neighbors, 0)])
        return np.ascontiguousarray(votes).reshape(-1, *patches)

    def _unit(self, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        centred = vectors - self._mean
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.float32(1e-12))


def _index_of(vectors: Float32[np.ndarray, "n d"], settings: NeighborSettings) -> faiss.Index:
    """FAISS's index of unit vectors by inner product, on the GPUs where there are some."""
    depth = vectors.shape[1]
    if settings.index == "ivf":
        num_lists = max(1, int(4 * np.sqrt(len(vectors))))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(depth), depth, num_lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1
        index.nprobe = max(1, num_lists // LISTS_SEARCHED)
        index.train(vectors)
    else:
        index = faiss.IndexFlatIP(depth)
    index.add(vectors)
    return faiss.index_cpu_to_all_gpus(index) if on_gpu() else index


class NeighborEvaluator:
    """A memory of labelled train patches per encoder and seed; neighbours vote on every val patch.

    Args:
        setup: of the run.
        settings: of memory and vote.
        seeds: each draws other patches.
    """

    def __init__(self, setup: Setup, *, settings: NeighborSettings, seeds: Sequence[int] = (0,)):
        self._setup, self._settings, self._seeds = setup, settings, tuple(seeds)
        self._quota = Quota.within(settings.memory_size, len(setup.train), each=settings.memory_size)
        self._of_seed = {
            seed: PatchCollector(quota=self._quota, patch=settings.patch, seed=seed, num_classes=len(setup.classes))
            for seed in self._seeds
        }
        self.collectors = list(self._of_seed.values())
        self._sizes: dict[str, int] = {}

    def fit(self) -> Heads:
        """Build the memories; see `Evaluator`.

        Raises:
            InputError: no train picture has a labelled pixel.
        """
        heads: dict[str, dict[str, NeighborHead]] = {}
        for seed, collector in self._of_seed.items():
            for encoder, memory in collector.memories().items():
                if len(memory.vectors) == 0:
                    hint = f"every label is the ignore value {IGNORE}"
                    raise InputError("no pixel of the train pictures is labelled", hint=hint)
                head = NeighborHead(memory, self._settings, cells_a_side=collector.cells_a_side[encoder])
                heads.setdefault(encoder, {})[f"neighbors|{seed}"] = head
                self._sizes[encoder] = len(memory.vectors)
        self._gallery = self._setup.gallery("neighbors")
        colours, head_drawn = palette(len(self._setup.classes)), f"neighbors|{self._seeds[0]}"
        self._gallery.painters["prediction"] = lambda view: colours[view.predictions[head_drawn]]
        return heads

    def galleries(self) -> list[Gallery]:
        """Draws predictions; see `Evaluator`."""
        return [self._gallery]

    def entries(self, counts: Mapping[Counts, np.ndarray], seconds: float) -> dict[str, Evaluation]:
        """`neighbors`; see `Evaluator`."""
        heads = {encoder: {seed: f"neighbors|{seed}" for seed in self._seeds} for encoder in self._sizes}
        scores = score_heads(counts, heads, self._setup)
        entry = evaluation(
            "neighbors", self._setup, self._settings_told(), scores, seconds=seconds, gallery=self._gallery
        )
        return {self._setup.entry("neighbors"): entry}

    def _settings_told(self) -> dict[str, Any]:
        return {
            "memory": {
                "drawn_from": "patches of clean train pictures with labelled pixels",
                "patches_per_picture": self._quota.each,
                **self._quota.settings,
                "num_patches": self._sizes,
                "seeds": self._seeds,
            },
            "vote": {
                "library": library().replace(", one thread", ""),
                "likeness": "cosine of patch means, centred by the memory's mean",
                "label": "shares of the classes among the patch's labelled pixels",
                **self._settings._asdict(),
            },
            "resolution": "votes of patches bilinearly upsampled to every labelled pixel",
        }

"""Offline assignment: before each epoch, k-means over its regions; their clusters stand for the whole epoch.

DeepCluster (Caron et al. 2018) as PiCIE (Cho et al. 2021), the paper's baseline, does it: the centroids are the
classifier, which the gradient does not move. With it the paper's claim that online assignment is better can be tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vice.data_specs.errors import InputError, WorkError
from vice.train.assignment.method import FirstView
from vice.train.config import AssignmentConfig
from vice.train.distributed import Process, gather_rows, sum_over_processes


class RegionsOfStep(NamedTuple):
    """All of view 1's regions of one step, of this process."""

    embeddings: Float[Tensor, "b d"]
    """Unit length, of the network as it is, in evaluation mode."""
    positions: Int64[Tensor, " b"]
    """Place of each region's picture in the order of all steps; those of a picture follow one another, by id."""


class KMeansAssignment:
    """Labels found by spherical k-means (FAISS) before the first step of every epoch, with its very views.

    An epoch is here the smallest number of steps that shows every picture. While it is clustered, its regions are kept
    in memory in 16 bits: 2 d bytes each.

    Args:
        config: iterations, restarts, most vectors.
        concepts: [k, d], the model's own; the centroids are put there.
        process: this process among all.
        seed: of the run.
        steps_per_epoch: steps between clusterings.
        regions_of: gives the regions of an epoch's steps, from the given one to its or the run's end.
    """

    learns_concepts = False

    def __init__(
        self,
        config: AssignmentConfig,
        concepts: nn.Parameter,
        process: Process,
        *,
        seed: int,
        steps_per_epoch: int,
        regions_of: Callable[[int], Iterator[RegionsOfStep]],
    ):
        self._config, self._concepts, self._process, self._seed = config, concepts, process, seed
        self._steps_per_epoch, self._regions_of = steps_per_epoch, regions_of
        self._epoch = -1
        self._positions = self._labels = torch.zeros(0, dtype=torch.int64)

    @torch.no_grad()
    def begin_step(self, step: int) -> None:
        """Cluster at an epoch's first step.

        Raises:
            InputError: the epoch has fewer regions than there are concepts.
            WorkError: embeddings are not finite.
        """
        epoch = step // self._steps_per_epoch
        if epoch == self._epoch:
            return
        embeddings, positions = self._collect(step)
        self._concepts.copy_(self._fit(embeddings, epoch))
        labels = torch.cat([self._nearest(part) for part in embeddings.split(1 << 14)])
        # positions are those of whole pictures, so a stable sort puts regions into the order of their ids
        rows = gather_rows(torch.stack([positions, labels], 1).to(self._concepts.device)).cpu()
        self._positions, order = rows[:, 0].sort(stable=True)
        self._labels, self._epoch = rows[:, 1][order], epoch

    def assign(self, view: FirstView) -> Float[Tensor, "b k"]:
        """The usable regions' clusters, as rows with a single 1."""
        starts = torch.searchsorted(self._positions, view.positions.cpu())
        ids = torch.arange(view.usable.shape[1])
        places = (starts[:, None] + ids).clamp_max(len(self._labels) - 1)
        labels = self._labels[places].to(view.usable.device)[view.usable]
        return F.one_hot(labels, view.scores.shape[-1]).to(view.scores.dtype)

    def end_step(self) -> None:
        """Nothing: labels stand until the next epoch."""

    def state_dict(self) -> dict[str, Any]:
        """The labels of the epoch at hand; every process has all of them."""
        return {"epoch": self._epoch, "positions": self._positions, "labels": self._labels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the labels of a state."""
        self._epoch, self._positions, self._labels = state["epoch"], state["positions"], state["labels"]

    def _collect(self, step: int) -> tuple[Float[Tensor, "b d"], Int64[Tensor, " b"]]:
        parts = [(part.embeddings.half().cpu(), part.positions.cpu()) for part in self._regions_of(step)]
        embeddings, positions = (torch.cat(column) for column in zip(*parts, strict=True))
        return embeddings, positions

    def _fit(self, embeddings: Float[Tensor, "b d"], epoch: int) -> Float[Tensor, "k d"]:
        """Centroids of an evenly taken part of all processes' regions, found by the first one, given to all."""
        most = -(-self._config.kmeans_vectors // self._process.world_size)
        taken = embeddings[:: max(1, -(-len(embeddings) // most))].float().to(self._concepts.device)
        vectors = gather_rows(taken).cpu().numpy()
        num_concepts = len(self._concepts)
        if not np.isfinite(vectors).all():
            hint = "lower optimiser.learning_rate in a new run"
            raise WorkError("embeddings not finite", where=f"k-means of epoch {epoch}", hint=hint)
        if len(vectors) < num_concepts:
            what = f"an epoch has {len(vectors)} regions, fewer than the {num_concepts} concepts"
            raise InputError(what, where="assignment.method=kmeans", hint="lower assignment.num_concepts")
        centroids = torch.zeros_like(self._concepts)
        if self._process.rank == 0:
            centroids.copy_(torch.from_numpy(_centroids(vectors, num_concepts, self._config, self._seed + epoch)))
        return sum_over_processes(centroids)

    def _nearest(self, embeddings: Float[Tensor, "b d"]) -> Int64[Tensor, " b"]:
        return (embeddings.float().to(self._concepts.device) @ self._concepts.T).argmax(1).cpu()


def _centroids(vectors: np.ndarray, num_concepts: int, config: AssignmentConfig, seed: int) -> np.ndarray:
    """float32 [k, d] of unit length, equal to the bit on one machine: FAISS on one thread of the CPU."""
    import faiss  # of all trainers only those that cluster offline need it

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        kmeans = faiss.Kmeans(
            vectors.shape[1],
            num_concepts,
            niter=config.kmeans_iterations,
            nredo=config.kmeans_restarts,
            seed=seed % 2**31,
            spherical=True,
            min_points_per_centroid=1,  # FAISS's 39 only sets when it prints a warning
            max_points_per_centroid=len(vectors),
            gpu=False,
        )
        kmeans.train(np.ascontiguousarray(vectors))
    finally:
        faiss.omp_set_num_threads(threads)
    return kmeans.centroids

"""Offline assignment: before each epoch, k-means over its regions; their clusters stand for the whole epoch.

DeepCluster (Caron et al. 2018) as PiCIE (Cho et al. 2021), the paper's baseline, does it: the centroids are the
classifier, which the gradient does not move. With it the paper's claim that online assignment is better can be tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64
from pydantic import Field

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.validation import StrictModel
from vice.train.assignment.capacity import check_num_concepts, regions_per_picture
from vice.train.assignment.clustering import spherical_centroids
from vice.train.assignment.method import METHODS, Method, MethodContext, Views

if TYPE_CHECKING:
    from torch import Tensor

    from vice.pipeline.shards import Shards
    from vice.train.config import TrainConfig


class KMeansSettings(StrictModel):
    """k-means before each epoch."""

    iterations: int = Field(default=20, ge=1)
    """Lloyd iterations of each restart."""
    restarts: int = Field(default=3, ge=1)
    """Runs from different first centroids; the best is taken."""
    max_vectors: int = Field(default=200_000, ge=1)
    """Most region embeddings that the centroids are found with; all regions are assigned to them."""


@METHODS.register("kmeans")
class KMeansAssignment(Method):
    """Labels found by spherical k-means (FAISS) before the first step of every epoch, with its very views.

    An epoch is here the smallest number of steps that shows every picture. While it is clustered, its regions are kept
    in memory in 16 bits: 2 d bytes each.
    """

    Settings = KMeansSettings
    learns_concepts = False

    def __init__(self, settings: KMeansSettings, context: MethodContext):
        import torch

        super().__init__(settings, context)
        self._epoch = -1
        self._positions = self._labels = torch.zeros(0, dtype=torch.int64)

    def begin_step(self, step: int) -> None:
        """Cluster at an epoch's first step.

        Raises:
            InputError: the epoch has fewer regions than there are concepts.
            WorkError: embeddings are not finite.
        """
        import torch

        from vice.train.distributed import gather_rows

        epoch = step // self.context.steps_per_epoch
        if epoch == self._epoch:
            return
        concepts = self.context.concepts
        with torch.no_grad():
            embeddings, positions = self._collect(step)
            concepts.copy_(self._fit(embeddings, epoch))
            labels = torch.cat([self._nearest(part) for part in embeddings.split(1 << 14)])
            # positions are those of whole pictures, so a stable sort puts regions into the order of their ids
            rows = gather_rows(torch.stack([positions, labels], 1).to(concepts.device)).cpu()
        self._positions, order = rows[:, 0].sort(stable=True)
        self._labels, self._epoch = rows[:, 1][order], epoch

    def assign(self, views: Views) -> Float[Tensor, "1 b k"]:
        """The usable regions' clusters, as rows with a single 1."""
        import torch
        import torch.nn.functional as F

        starts = torch.searchsorted(self._positions, views.positions.cpu())
        indices = (starts + views.ids.cpu()).clamp_max(len(self._labels) - 1)
        labels = self._labels[indices].to(views.scores.device)
        return F.one_hot(labels, views.scores.shape[-1]).to(views.scores.dtype)[None]

    def state_dict(self) -> dict[str, Any]:
        """The labels of the epoch at hand; every process has all of them."""
        return {"epoch": self._epoch, "positions": self._positions, "labels": self._labels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the labels of a state."""
        self._epoch, self._positions, self._labels = state["epoch"], state["positions"], state["labels"]

    def _collect(self, step: int) -> tuple[Float[Tensor, "b d"], Int64[Tensor, " b"]]:
        import torch

        parts = [(part.embeddings.half().cpu(), part.positions.cpu()) for part in self.context.regions_of(step)]
        embeddings, positions = (torch.cat(column) for column in zip(*parts, strict=True))
        return embeddings, positions

    def _fit(self, embeddings: Float[Tensor, "b d"], epoch: int) -> Float[Tensor, "k d"]:
        """Centroids of an evenly taken part of all processes' regions, found by the first one, given to all."""
        import torch

        from vice.train.distributed import gather_rows, sum_over_processes

        concepts, process = self.context.concepts, self.context.process
        share = -(-self.settings.max_vectors // process.world_size)
        taken = embeddings[:: max(1, -(-len(embeddings) // share))].float().to(concepts.device)
        vectors = gather_rows(taken).cpu().numpy()
        _check_vectors(vectors, len(concepts), epoch)
        centroids = torch.zeros_like(concepts)
        if process.rank == 0:
            found = spherical_centroids(
                vectors,
                len(concepts),
                iterations=self.settings.iterations,
                restarts=self.settings.restarts,
                seed=self.context.config.seed + epoch,
            )
            centroids.copy_(torch.from_numpy(found))
        return sum_over_processes(centroids)

    def _nearest(self, embeddings: Float[Tensor, "b d"]) -> Int64[Tensor, " b"]:
        concepts = self.context.concepts
        return (embeddings.float().to(concepts.device) @ concepts.T).argmax(1).cpu()

    @classmethod
    def check(cls, config: TrainConfig, shards: Shards, *, num_processes: int) -> None:
        """Refuse more concepts than regions of an epoch, and sources whose regions are not clustered."""
        if config.assignment.source != "student":
            hint = "set assignment.source=student, or assignment.method=swav or nearest"
            raise InputError("k-means clusters the network's own regions", where="assignment.source", hint=hint)
        per_picture = regions_per_picture(config, shards)
        of = f"an epoch ({len(shards)} pictures of at most {per_picture:.0f} in all views)"
        hint = "lower it, or take smaller views.regions"
        check_num_concepts(config, per_picture * len(shards), of=of, hint=hint)

    @classmethod
    def advice_for_guessing(cls, settings: KMeansSettings) -> list[str]:
        """Better clusters."""
        return [f"raise assignment.kmeans.restarts (now {settings.restarts}) for clusters that fit better"]


def _check_vectors(vectors: np.ndarray, num_concepts: int, epoch: int) -> None:
    if not np.isfinite(vectors).all():
        hint = "lower optimiser.learning_rate in a new run"
        raise WorkError("embeddings not finite", where=f"k-means of epoch {epoch}", hint=hint)
    if len(vectors) < num_concepts:
        what = f"an epoch has {len(vectors)} regions, fewer than the {num_concepts} concepts"
        raise InputError(what, where="assignment.method=kmeans", hint="lower assignment.num_concepts")

"""What a run measures of its own steps: sums that stay on the device until a line of metrics is asked for.

All processes add up their own steps; only a line exchanges something, so logging costs nothing in between.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vice.pipeline.loader.batch import Batch
from vice.train.config import TrainConfig
from vice.train.distributed import max_over_processes, sum_over_processes, world_size
from vice.train.step import Outcome


class Meter:
    """Sums over the steps since the last line.

    Args:
        config: number of concepts, dimension, loss terms.
        device: where the sums are kept.
    """

    def __init__(self, config: TrainConfig, device: torch.device):
        self._num_concepts, self._device = config.assignment.num_concepts, device
        self._dim, self._assigns = config.model.embedding_dim, config.assigns
        self._clear()

    def add(self, outcome: Outcome, batch: Batch, wait: float) -> None:
        """Count one step of this process; nothing is read back from the device.

        Args:
            outcome: what the step found.
            batch: what it was given.
            wait: seconds spent waiting for the batch.
        """
        regions = outcome.usable.sum(1)
        counted = [outcome.loss, regions.sum(), (regions == 0).sum(), batch.masked.sum()]
        self._sums += torch.stack([number.detach().double() for number in counted])
        for name, value in outcome.terms.items():
            self._terms[name] = self._terms.get(name, 0) + value.detach().double()
        self._predicted.index_add_(0, outcome.predicted, torch.ones_like(outcome.predicted))
        # float32 sums of equal directions leave a variance in all others, which together look like a rank
        vectors = F.normalize(outcome.embeddings.double(), dim=1)
        self._products += vectors.T @ vectors
        self._vector_sums.append(torch.cat([vectors.sum(0), vectors.new_full((1,), len(vectors))]))
        self._steps += 1
        self._pictures += batch.images.shape[1]
        self._pixels += batch.masked.numel()
        self._num_views = batch.images.shape[0]
        self._wait += wait

    def line(self) -> dict[str, float | None]:
        """Metrics since the last line, over all processes; all of them call it, after the same steps.

        Returns:
            By name: `loss`, and `loss/TERM` of each active term without its weight; `ln_k`, what guessing would give of
            swapped prediction (None where nothing is assigned); `concept_entropy` of the shares of regions for which
            the network predicts each concept (nats), `concepts_used` (its exponential) and `dead_concepts` (predicted
            for none); `embedding_spread` and `effective_rank`, see there (None without regions); `masked_ratio` of the
            views' pixels; `regions_per_view` in the loss, which are the same in all views and so also
            `regions_per_picture`; `pictures_without_regions` as a share; `images_per_second` and `views_per_second`;
            `data_wait`, the share of time spent waiting for data; `memory_gib`, see `peak_memory`.
        """
        here = [self._pictures, self._pixels, self._wait]
        sums = torch.cat([self._sums, torch.tensor(here, dtype=torch.float64, device=self._device)])
        loss, regions, without, masked, pictures, pixels, wait = sum_over_processes(sums).tolist()
        terms = sum_over_processes(torch.stack(list(self._terms.values()))).tolist()
        predicted = sum_over_processes(self._predicted).double()
        share = predicted / predicted.sum().clamp_min(1)
        entropy = float(torch.special.entr(share).sum())
        vector_sums = sum_over_processes(torch.stack(self._vector_sums))
        per_step = world_size() * self._steps
        seconds = time.perf_counter() - self._since
        line = {
            "loss": loss / per_step,
            **{f"loss/{name}": value / per_step for name, value in zip(self._terms, terms, strict=True)},
            "ln_k": math.log(self._num_concepts) if self._assigns else None,
            "concept_entropy": entropy,
            "concepts_used": math.exp(entropy),
            "dead_concepts": int((predicted == 0).sum()),
            "embedding_spread": embedding_spread(vector_sums),
            "effective_rank": effective_rank(sum_over_processes(self._products), vector_sums.sum(0)),
            "masked_ratio": masked / pixels,
            "regions_per_view": regions / pictures,
            "regions_per_picture": regions / pictures,
            "pictures_without_regions": without / pictures,
            "images_per_second": pictures / seconds,
            "views_per_second": pictures * self._num_views / seconds,
            "data_wait": wait / world_size() / seconds,
            "memory_gib": float(max_over_processes(torch.tensor(peak_memory(self._device), device=self._device))),
        }
        self._clear()
        return line

    def _clear(self) -> None:
        self._sums = torch.zeros(4, dtype=torch.float64, device=self._device)
        self._terms: dict[str, Tensor] = {}
        self._predicted = torch.zeros(self._num_concepts, dtype=torch.int64, device=self._device)
        self._products = torch.zeros(self._dim, self._dim, dtype=torch.float64, device=self._device)
        self._vector_sums: list[Float[Tensor, " d+1"]] = []
        self._steps = self._pictures = self._pixels = self._num_views = 0
        self._wait, self._since = 0.0, time.perf_counter()


def embedding_spread(sums: Float[Tensor, "steps d+1"]) -> float | None:
    """1 minus the mean cosine between different regions of a step: 0 where all are alike, 1 where they are unrelated.

    For n unit vectors z the n(n-1) ordered pairs have a mean cosine of (|Σz|² - n) / (n(n-1)), so a step's sum is
    enough. It is of regions in view 1; those of one picture and of different pictures count alike.

    Args:
        sums: of each step, Σz over the regions of all processes, and last n.

    Returns:
        The mean over steps; those with fewer than two regions are left out, None if that is all.
    """
    count = sums[:, -1]
    cosine = (sums[:, :-1].square().sum(1) - count) / (count * (count - 1))
    enough = count > 1
    return float(1 - cosine[enough].mean()) if enough.any() else None


def effective_rank(products: Float[Tensor, "d d"], sums: Float[Tensor, " d+1"]) -> float | None:
    """Number of dimensions that the embeddings fill: exp of the entropy of their singular values' shares.

    Roy and Vetterli 2007, of the centred embeddings; RankMe (Garrido et al. 2023) of a run in progress. It is 1 where
    all of them lie on a line, however far apart, which `embedding_spread` does not see.

    Args:
        products: Σ z zᵀ over the regions of all processes and steps, in float64.
        sums: Σ z, and last their number.

    Returns:
        Between 1 and d; 0 where all embeddings are equal, None with fewer than two regions.
    """
    total = float(sums[-1])
    if total < 2:
        return None
    mean = sums[:-1] / total
    values = torch.linalg.eigvalsh(products / total - mean[:, None] * mean).clamp_min(0).sqrt()
    # embeddings of the same content differ by this much, which is no dimension
    values = torch.where(values > 1e-3, values, 0)
    if not values.any():
        return 0.0
    return math.exp(float(torch.special.entr(values / values.sum()).sum()))


def peak_memory(device: torch.device) -> float:
    """Most memory since the process began, in GiB: torch's tensors on a GPU, the process's resident memory without."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    # Linux's getrusage counts what the process that started this one had
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**20

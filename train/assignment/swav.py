"""Online assignment by optimal transport: every step's regions, with those of a queue, evenly over the concepts.

Paper, section 3.3; Caron et al. 2020 (SwAV).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vice.train.assignment.embedding_queue import EmbeddingQueue
from vice.train.assignment.method import FirstView
from vice.train.assignment.sinkhorn import sinkhorn
from vice.train.config import AssignmentConfig
from vice.train.distributed import Process


class SwavAssignment:
    """Sinkhorn-Knopp over the regions of all processes and over their queues, scored by the present concepts.

    Args:
        config: ε, iterations, length of the queue.
        concepts: [k, d], the model's own.
        process: this process among all.
    """

    learns_concepts = True

    def __init__(self, config: AssignmentConfig, concepts: nn.Parameter, process: Process):
        self._config, self._concepts, self._process = config, concepts, process
        self.queue = EmbeddingQueue(config.queue_length, concepts.shape[1], concepts.device)
        self._seen: list[Float[Tensor, "b d"]] = []

    def begin_step(self, step: int) -> None:
        """Nothing: regions are assigned as they come."""

    @torch.no_grad()
    def assign(self, view: FirstView) -> Float[Tensor, "b k"]:
        """Assign the usable regions together with the queue's, once that is full of real ones."""
        scores = view.scores[view.usable]
        if self.queue.is_full:
            scores = torch.cat([scores, self.queue.rows @ self._concepts.T])
        self._seen.append(view.embeddings[view.usable])
        count = len(self._seen[-1])
        return sinkhorn(scores, epsilon=self._config.epsilon, iterations=self._config.sinkhorn_iterations)[:count]

    def end_step(self) -> None:
        """Put the step's regions into the queue: parts of one step never see each other through it."""
        self.queue.push(torch.cat(self._seen))
        self._seen = []

    def state_dict(self) -> dict[str, Any]:
        """The queues of all processes, in the order of ranks."""
        return {"queue": self.queue.gathered()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process's part of the queues."""
        self.queue.deal(state["queue"], rank=self._process.rank, world_size=self._process.world_size)

"""Online assignment by optimal transport: every step's regions, with those of a queue, evenly over the concepts.

Paper, section 3.3; Caron et al. 2020 (SwAV).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from pydantic import Field

from vice.data_specs.validation import StrictModel
from vice.train.assignment.capacity import check_num_concepts, regions_per_picture
from vice.train.assignment.method import METHODS, Method, MethodContext, Views

if TYPE_CHECKING:
    from torch import Tensor

    from vice.pipeline.shards import Shards
    from vice.train.config import TrainConfig


class SwavSettings(StrictModel):
    """Optimal transport by Sinkhorn-Knopp."""

    epsilon: float = Field(default=0.05, gt=0)
    """Entropy of the optimal transport; smaller is harder."""
    iterations: int = Field(default=3, ge=1)
    """Sinkhorn-Knopp iterations."""
    queue_length: int = Field(default=5000, ge=0)
    """Embeddings of earlier regions that each process keeps for the assignment; used once full."""


@METHODS.register("swav")
class SwavAssignment(Method):
    """Sinkhorn-Knopp over the regions of all processes and over their queues, scored by the present concepts.

    Every view given is transported by itself, each with the queue, which holds view 1's regions.
    """

    Settings = SwavSettings

    def __init__(self, settings: SwavSettings, context: MethodContext):
        from vice.train.assignment.embedding_queue import EmbeddingQueue

        super().__init__(settings, context)
        concepts = context.concepts
        self.queue = EmbeddingQueue(settings.queue_length, concepts.shape[1], concepts.device)
        self._seen: list[Float[Tensor, "b d"]] = []

    def assign(self, views: Views) -> Float[Tensor, "m b k"]:
        """Assign the usable regions of each view together with the queue's, once that is full."""
        import torch

        from vice.train.assignment.sinkhorn import sinkhorn

        with torch.no_grad():
            self._seen.append(views.embeddings[0])
            queued = [self.queue.rows @ views.concepts.T] if self.queue.is_full else []
            return torch.stack(
                [
                    sinkhorn(
                        torch.cat([scores, *queued]), epsilon=self.settings.epsilon, iterations=self.settings.iterations
                    )[: len(scores)]
                    for scores in views.scores
                ]
            )

    def end_step(self) -> None:
        """Put the step's regions into the queue: parts of one step never see each other through it."""
        import torch

        if self._seen:
            self.queue.push(torch.cat(self._seen))
        self._seen = []

    def state_dict(self) -> dict[str, Any]:
        """The queues of all processes, in the order of ranks, and whether all of them were in use."""
        return self.queue.gathered_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process's part of the queues."""
        process = self.context.process
        self.queue.deal(state, rank=process.rank, world_size=process.world_size)

    @classmethod
    def check(cls, config: TrainConfig, shards: Shards, *, num_processes: int) -> None:
        """Refuse more concepts than regions that a step, with the queues, can have: each needs one at least."""
        queued = config.assignment.swav.queue_length * num_processes
        per_picture = regions_per_picture(config, shards)
        of = f"a step ({config.global_batch} pictures of at most {per_picture:.0f} in all views"
        of += f" and {queued} of the queue)" if queued else ")"
        hint = "lower it, or raise global_batch or assignment.swav.queue_length, or take smaller views.regions"
        check_num_concepts(config, per_picture * config.global_batch + queued, of=of, hint=hint)

    @classmethod
    def advice_for_few_concepts(cls, settings: SwavSettings) -> list[str]:
        """More iterations spread regions more evenly."""
        return ["raise assignment.swav.iterations, so that all concepts are used evenly"]

    @classmethod
    def advice_for_guessing(cls, settings: SwavSettings) -> list[str]:
        """Harder assignments, and a queue that may be stale."""
        tries = [f"lower assignment.swav.epsilon (now {settings.epsilon:g}) for harder assignments"]
        if settings.queue_length > 0:
            setting = f"assignment.swav.queue_length (now {settings.queue_length})"
            tries.append(f"shorten {setting} if the loss rose when the queue came into use")
        return tries

"""The FIFO queue of region embeddings that makes the assignment's sample larger (paper, section 3.3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vice.train.distributed import gather_rows


class EmbeddingQueue:
    """The last `length` region embeddings of this process.

    Args:
        length: embeddings kept; 0 is no queue.
        dim: length of an embedding.
        device: where they are kept.
    """

    def __init__(self, length: int, dim: int, device: torch.device | str = "cpu"):
        self.length = length
        self.rows: Float[Tensor, "q d"] = torch.zeros(0, dim, device=device)

    @property
    def is_full(self) -> bool:
        """Whether it holds `length` real embeddings; only then does it take part in the assignment."""
        return 0 < self.length == len(self.rows)

    def push(self, embeddings: Float[Tensor, "b d"]) -> None:
        """Add embeddings, newest last; the oldest go."""
        if self.length:
            self.rows = torch.cat([self.rows, embeddings.detach()])[-self.length :]

    def gathered(self) -> Float[Tensor, "all d"]:
        """The queues of all processes in the order of ranks, for a checkpoint."""
        return gather_rows(self.rows)

    def deal(self, rows: Float[Tensor, "all d"], *, rank: int, world_size: int) -> None:
        """Take this process's part of gathered rows; another number of processes shares them anew."""
        start, stop = (len(rows) * part // world_size for part in (rank, rank + 1))
        self.rows = rows[start:stop][-self.length :].to(self.rows.device) if self.length else self.rows

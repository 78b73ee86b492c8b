"""The FIFO queue of region embeddings that makes the assignment's sample larger (paper, section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vice.train.distributed import gather_rows, min_over_processes


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
        self._was_full = False

    @property
    def is_full(self) -> bool:
        """Whether it takes part in the assignment: it has been filled with real embeddings.

        A full queue that was dealt out among more processes stays in use while it grows to `length` again.
        """
        return self.length > 0 and (self._was_full or len(self.rows) == self.length)

    def push(self, embeddings: Float[Tensor, "b d"]) -> None:
        """Add embeddings, newest last; the oldest leave."""
        if self.length:
            self.rows = torch.cat([self.rows, embeddings.detach()])[-self.length :]
            self._was_full |= len(self.rows) == self.length

    def gathered_state(self) -> dict[str, Any]:
        """The queues of all processes in the order of ranks, and whether all of them were full; for a checkpoint."""
        full = min_over_processes(torch.tensor(float(self.is_full), device=self.rows.device))
        return {"queue": gather_rows(self.rows), "queue_full": bool(full)}

    def deal(self, state: dict[str, Any], *, rank: int, world_size: int) -> None:
        """Take this process's part of gathered rows; another number of processes shares them anew.

        Args:
            state: of `gathered_state`.
            rank: this process.
            world_size: number of processes now.
        """
        if not self.length:
            return
        rows = state["queue"]
        start, stop = (len(rows) * part // world_size for part in (rank, rank + 1))
        self.rows = rows[start:stop][-self.length :].to(self.rows.device)
        self._was_full = bool(state["queue_full"])

"""Which samples a step reads: a pure function of (seed, step, rank); the whole state of the order is one number.

Positions run on without end: position p is sample `p % n` of epoch `p // n`'s own permutation, and step t takes the
positions t·B to (t+1)·B − 1. Every batch is full, every epoch complete, whatever the number of processes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vice.data_specs.errors import InputError
from vice.pipeline.loader.counters import raw_draws


class Visit(NamedTuple):
    """One visit of one sample."""

    epoch: int
    sample: int


class SampleOrder:
    """The order of the samples, for one process.

    Args:
        num_samples: samples in the shards.
        global_batch: pictures a step, over all processes.
        seed: seed of the run.
        rank: this process.
        world_size: number of processes; must divide the global batch.

    Raises:
        InputError: the batch cannot be dealt out evenly, or there are no samples.
    """

    def __init__(self, num_samples: int, *, global_batch: int, seed: int, rank: int = 0, world_size: int = 1):
        if num_samples < 1:
            raise InputError("the shards hold no sample", hint="see rejected.parquet for the reasons")
        if global_batch % world_size:
            raise InputError(
                f"{world_size} processes cannot share a global batch of {global_batch} pictures",
                hint="choose a number of processes that divides it, or another batch",
            )
        self.num_samples, self.global_batch, self.seed = num_samples, global_batch, seed
        self.rank, self.world_size = rank, world_size

    def visits(self, step: int) -> list[Visit]:
        """This process's samples of a step, every `world_size`-th of the step's positions."""
        first = step * self.global_batch
        positions = range(first + self.rank, first + self.global_batch, self.world_size)
        return [self._visit(position) for position in positions]

    def steps(self, epochs: float) -> int:
        """Number of steps that cover so many epochs, rounded up."""
        return int(np.ceil(epochs * self.num_samples / self.global_batch))

    def _visit(self, position: int) -> Visit:
        epoch, place = divmod(position, self.num_samples)
        return Visit(epoch, int(_permutation(self.num_samples, self.seed, epoch)[place]))


@lru_cache(maxsize=2)
def _permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.argsort(raw_draws(seed, "order", epoch, 0, num_samples), kind="stable")

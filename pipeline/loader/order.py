"""Which samples a step reads: a pure function of (seed, step, rank); the whole state of the order is one number.

Positions run on without end: position p is sample `p % n` of epoch `p // n`'s own permutation, and step t takes the
positions t·B to (t+1)·B − 1. Every batch is full, every epoch complete, whatever the number of processes.

Without a window the permutation is of all samples. With a window of W shards, every epoch permutes the shards, takes
them W at a time, and permutes the samples of those: so few shards are read at once that whole tars can be fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        window: shards whose samples are mixed at a time; 0 mixes all samples.
        shard_sizes: samples of each shard, whose numbers follow one another; needed for a window.

    Raises:
        InputError: the batch cannot be dealt out evenly, there are no samples, or the window is negative.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        global_batch: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        window: int = 0,
        shard_sizes: Sequence[int] | np.ndarray = (),
    ):
        if num_samples < 1:
            raise InputError("the shards hold no sample", hint="see rejected.parquet for the reasons")
        if global_batch % world_size:
            raise InputError(
                f"{world_size} processes cannot share a global batch of {global_batch} pictures",
                hint="choose a number of processes that divides it, or another batch",
            )
        if window < 0:
            raise InputError(f"a window of {window} shards", hint="0 mixes all samples, other windows are positive")
        self.num_samples, self.global_batch, self.seed = num_samples, global_batch, seed
        self.rank, self.world_size = rank, world_size
        self._windows = _Windows(num_samples, shard_sizes, seed, window) if window else None

    def visits(self, step: int) -> list[Visit]:
        """This process's samples of a step, every `world_size`-th of the step's positions."""
        first = step * self.global_batch
        positions = range(first + self.rank, first + self.global_batch, self.world_size)
        return [self._visit(position) for position in positions]

    def steps(self, epochs: float) -> int:
        """Number of steps that cover so many epochs, rounded up."""
        return int(np.ceil(epochs * self.num_samples / self.global_batch))

    @property
    def has_windows(self) -> bool:
        """Whether samples are mixed a window of shards at a time."""
        return self._windows is not None

    def window_of(self, step: int) -> int:
        """The window that a step begins in; windows are counted on from epoch to epoch."""
        epoch, place = divmod(step * self.global_batch, self.num_samples)
        return epoch * self._windows.per_epoch + self._windows.at(epoch, place)

    def shards_of(self, window: int) -> list[int]:
        """Shards that this process reads in a window (counted from the first epoch on), as it first needs them."""
        epoch, number = divmod(window, self._windows.per_epoch)
        mixed = self._windows.mixed(epoch, number)
        # positions are dealt out over epochs' borders
        mine = (self.rank - epoch * self.num_samples - mixed.start) % self.world_size
        shards, first = np.unique(mixed.shards[mine :: self.world_size], return_index=True)
        return shards[np.argsort(first)].tolist()

    def _visit(self, position: int) -> Visit:
        epoch, place = divmod(position, self.num_samples)
        if self._windows is None:
            return Visit(epoch, int(permutation(self.num_samples, self.seed, epoch)[place]))
        mixed = self._windows.mixed(epoch, self._windows.at(epoch, place))
        return Visit(epoch, int(mixed.samples[place - mixed.start]))


class _Mixed(NamedTuple):
    """The samples of a window, as they are visited."""

    start: int
    """Place of the first one in the epoch."""
    samples: np.ndarray
    """int64 [k]: their numbers."""
    shards: np.ndarray
    """int64 [k]: the shard of each."""


class _Windows:
    """Every epoch's permutation of the shards, cut into windows, each with its own permutation of samples.

    In memory are the shards of two epochs and the samples of three windows.
    """

    def __init__(self, num_samples: int, shard_sizes: Sequence[int] | np.ndarray, seed: int, window: int):
        self._sizes = np.asarray(shard_sizes, np.int64)
        if self._sizes.sum() != num_samples:
            raise ValueError(f"shards of {self._sizes.sum()} samples together, not {num_samples}")
        self._firsts = np.cumsum(self._sizes) - self._sizes
        self._seed, self._window = seed, window
        self.per_epoch = -(-len(self._sizes) // window)
        self._shuffled = lru_cache(maxsize=2)(self._shuffle_shards)
        self.mixed = lru_cache(maxsize=3)(self._mix)

    def at(self, epoch: int, place: int) -> int:
        """The window of an epoch that holds one of its places."""
        return int(np.searchsorted(self._shuffled(epoch)[1], place, side="right")) - 1

    def _shuffle_shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's shards int64 [s] in their order, and the first place of each of its windows int64 [w]."""
        shards = np.argsort(raw_draws(self._seed, "windows", epoch, 0, len(self._sizes)), kind="stable")
        ends = np.cumsum(self._sizes[shards])
        return shards, (ends - self._sizes[shards])[:: self._window]

    def _mix(self, epoch: int, number: int) -> _Mixed:
        """A window of an epoch."""
        shuffled, starts = self._shuffled(epoch)
        shards = shuffled[number * self._window : (number + 1) * self._window]
        sizes = self._sizes[shards]
        ends = np.cumsum(sizes)
        samples = np.arange(ends[-1]) + np.repeat(self._firsts[shards] - (ends - sizes), sizes)
        order = np.argsort(raw_draws(self._seed, "windows", epoch, number + 1, len(samples)), kind="stable")
        return _Mixed(int(starts[number]), samples[order], np.repeat(shards, sizes)[order])


@lru_cache(maxsize=2)
def permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """int64 [num_samples]: the samples of an epoch in their order, all mixed."""
    return np.argsort(raw_draws(seed, "order", epoch, 0, num_samples), kind="stable")

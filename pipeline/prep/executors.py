"""What makes the shards of a plan: processes by Ray, or this process alone. The bytes are the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Protocol

import cv2

from vice.data_specs.errors import InputError
from vice.pipeline.prep.part import make_part, part_size
from vice.pipeline.prep.plan import KeyedInput
from vice.pipeline.prep.progress import PictureProgress
from vice.pipeline.prep.sample import Recipe
from vice.pipeline.prep.shard import Part, ShardFiles, check_shard, write_shard
from vice.pipeline.storage.base import Storage

WriteShard = Callable[[Storage, str, Iterable[Part]], ShardFiles]
"""Writes the shard of a name from its parts; can be sent to other processes."""


class ShardPlan(Protocol):
    """What must be known of the shards to be made: a `Plan`, or shards that are repaired."""

    recipe: Recipe
    settings_fingerprint: str

    def shard(self, number: int) -> str:
        """Name of a shard without suffix."""

    def num_inputs_of(self, number: int) -> int:
        """Number of inputs of a shard."""

    def inputs_of(self, number: int) -> list[KeyedInput]:
        """The inputs of a shard, in order."""


class Executor(Protocol):
    """Makes shards."""

    def finish(self, numbers: Sequence[int], begun: Iterable[int] = ()) -> list[ShardFiles]:
        """Make shards; returns them in order.

        Args:
            numbers: of the shards.
            begun: numbers of those that an earlier run may have finished: they are checked, and kept if whole.
        """


def joined(workers: int | None, ray_address: str | None) -> AbstractContextManager[None]:
    """Join a cluster, if one is named: before OUT is locked, so that one that does not answer leaves no trace there.

    Args:
        workers: number of processes.
        ray_address: a running Ray cluster.

    Raises:
        InputError: a cluster is named, and no worker.
        WorkError (when entered): no cluster answers.
    """
    if ray_address is None:
        return nullcontext()
    if workers == 0:
        raise InputError("--workers 0 uses no Ray, and --ray-address names one", hint="give one of them")
    # read when Ray is imported; it would try twenty times, a second each, where another of Ray's ports is given
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "8")
    from vice.pipeline.prep.ray_session import joined_cluster

    return joined_cluster(ray_address)


@contextmanager
def open_executor(
    out: Storage,
    plan: ShardPlan,
    *,
    workers: int | None,
    ray_address: str | None,
    check: Callable[[], None],
    writer: Callable[[int], WriteShard] | None = None,
) -> Iterator[Executor]:
    """Start what makes the shards of a plan.

    Args:
        out: the folder.
        plan: the shards to be made.
        workers: number of processes; 0 is this process alone, without Ray; None is all usable cores (of the cluster).
        ray_address: a Ray cluster, which `joined` has joined.
        check: called now and then; raises where another run has taken OUT.
        writer: how the shard of a number is written; `write_shard` if not given.

    Raises:
        WorkError: Ray cannot be started.
    """
    write = partial(write_shard, settings_fingerprint=plan.settings_fingerprint)
    writer = writer or (lambda number: write)
    if workers == 0:
        yield InProcess(out, plan, check=check, writer=writer)
        return
    from vice.pipeline.prep.ray_session import ClusterCores, started_ray
    from vice.pipeline.prep.tasks import RayTasks

    if ray_address is not None:
        yield RayTasks(out, plan, ClusterCores(workers), check=check, writer=writer)
        return
    with started_ray(workers) as num_workers:
        yield RayTasks(out, plan, lambda: num_workers, check=check, writer=writer)


class InProcess:
    """One input after the other in this process, for small jobs: Ray takes seconds to start.

    Nothing protects it from a picture that kills its decoder.

    Args:
        out: the folder.
        plan: the shards to be made.
        check: called after every part.
        writer: how the shard of a number is written.
    """

    def __init__(
        self, out: Storage, plan: ShardPlan, *, check: Callable[[], None], writer: Callable[[int], WriteShard]
    ):
        self._out, self._plan, self._check_hold, self._writer = out, plan, check, writer

    def finish(self, numbers: Sequence[int], begun: Iterable[int] = ()) -> list[ShardFiles]:
        """See `Executor`."""
        plan, begun = self._plan, set(begun)
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            with PictureProgress(sum(plan.num_inputs_of(number) for number in numbers), 0, 0) as progress:
                return [self._shard(number, number in begun, progress) for number in numbers]
        finally:
            cv2.setNumThreads(threads)

    def _shard(self, number: int, may_be_whole: bool, progress: PictureProgress) -> ShardFiles:
        name = self._plan.shard(number)
        files = check_shard(self._out, name, self._plan.settings_fingerprint) if may_be_whole else None
        if files is not None:
            progress.advance(self._plan.num_inputs_of(number), files.num_rejected)
            return files
        return self._writer(number)(self._out, name, self._parts(number, progress))

    def _parts(self, number: int, progress: PictureProgress) -> Iterator[Part]:
        inputs = self._plan.inputs_of(number)
        size = part_size(len(inputs), 1)
        for start in range(0, len(inputs), size):
            some = inputs[start : start + size]
            part = make_part(some, self._plan.recipe)
            progress.advance(len(some), len(part.rejected))
            self._check_hold()
            yield part

"""The job: a source → OUT, spread over processes by Ray.

A shard is a pure function of its inputs and the settings. Its parts are made by one task each, so that a single shard
already keeps every worker busy, and one more task joins them. Neither order nor number of workers can change a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import ray
import ray.exceptions

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import ViceError, WorkError
from vice.data_specs.shard_format import DATASET_FILE, DatasetRecord, PrepSettings
from vice.pipeline.dataset_record import read_dataset_record
from vice.pipeline.prep.isolation import make_sample_apart
from vice.pipeline.prep.plan import KeyedInput, make_plan
from vice.pipeline.prep.progress import PictureProgress
from vice.pipeline.prep.ray_session import ray_session
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import READ_FAILED, Recipe, make_sample
from vice.pipeline.prep.shard import Part, ShardFiles, build_part, check_shard, write_shard
from vice.pipeline.prep.totals import complete
from vice.pipeline.prep.workspace import Workspace, refuse_if_other
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.opening import open_storage

_SMALLEST_PART, _LARGEST_PART = 4, 32
"""Inputs per task: small jobs in small parts, so that all workers end together; large ones with few tasks."""

_TASKS_PER_WORKER = 2
"""Tasks in flight for each worker: one runs, one waits."""

_CRASH_RETRIES = 3
"""How often Ray runs a task again whose process or node died. What a task raises is never retried."""


class Outcome(NamedTuple):
    """What a job came to."""

    record: DatasetRecord
    was_complete: bool
    """Nothing was left to do."""


def shard_dataset(
    source: str | Path,
    out: str | Path,
    settings: PrepSettings,
    spec: DatasetSpec,
    *,
    workers: int | None = None,
    ray_address: str | None = None,
) -> Outcome:
    """Shard a source into OUT, or finish what an interrupted run left.

    Args:
        source: a folder, glob, list or tars, see `open_source`.
        out: folder of shards, on a disk or an object store.
        settings: everything that decides the bytes.
        spec: how the dataset names its files and classes.
        workers: number of processes; all usable cores (of the cluster) where None.
        ray_address: a running Ray cluster to join, whose machines see source and OUT under the same addresses.

    Raises:
        InputError: bad source or OUT, or OUT was begun or made with other settings or inputs.
        WorkError: every input was rejected, another run is writing, or the work failed.
    """
    plan = make_plan(source, settings, spec)
    storage = open_storage(out)
    with _told_as_one_line(storage):
        if storage.exists(DATASET_FILE):
            refuse_if_other(storage, plan)
            return Outcome(read_dataset_record(storage), was_complete=True)
        with Workspace(storage, plan) as workspace, ray_session(workers, ray_address) as num_workers:
            shards = _Shards(workspace, num_workers).finished()
            return Outcome(complete(workspace, shards), was_complete=False)


@contextmanager
def _told_as_one_line(out: Storage) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"a disk or store failed ({error})"
        raise WorkError(what, where=out.address, hint="run the same command again to go on") from error


@dataclass
class _OpenShard:
    """A shard whose parts are being made."""

    number: int
    parts: list[ray.ObjectRef] = field(default_factory=list)
    """In the order of its inputs."""
    unfinished: int = 0


class _Job:
    """A task in flight: what to do with its answer, and with the death of its process."""

    def __init__(self, then: Callable[[Any], None], instead: Callable[[], None] | None = None):
        self.then, self.instead = then, instead


class _Shards:
    """The tasks of a job, a bounded number in flight.

    Args:
        workspace: OUT.
        num_workers: tasks that can run at once.
    """

    def __init__(self, workspace: Workspace, num_workers: int):
        self._workspace, self._plan, self._num_workers = workspace, workspace.plan, num_workers
        self._whole: dict[int, ShardFiles] = {}
        self._running: dict[ray.ObjectRef, _Job] = {}
        options = {"max_retries": _CRASH_RETRIES}
        self._check = ray.remote(**options)(check_shard)
        # joining parts is waiting for the disk: it takes no core from those that make parts
        self._write = ray.remote(num_cpus=0, **options)(_write_shard)
        self._make = ray.remote(num_returns=2, **options)(_make_part)
        self._make_apart = ray.remote(num_returns=2, **options)(_make_part_apart)
        self._out = ray.put(workspace.out)
        self._recipe = ray.put(self._plan.recipe)

    def finished(self) -> list[ShardFiles]:
        """Make what is missing; returns all shards in order."""
        plan = self._plan
        self._spread(self._checks(self._workspace.begun_shards()))
        done = sum(plan.num_inputs_of(number) for number in self._whole)
        rejected = sum(shard.num_rejected for shard in self._whole.values())
        todo = [number for number in range(plan.num_shards) if number not in self._whole]
        with PictureProgress(len(plan.order), done, rejected) as self._progress:
            self._spread(self._parts(todo))
        return [self._whole[number] for number in range(plan.num_shards)]

    def _spread(self, starts: Iterable[Callable[[], None]]) -> None:
        """Start tasks as others end, until all have ended."""
        waiting = iter(starts)
        more = True
        while more or self._running:
            while more and len(self._running) < _TASKS_PER_WORKER * self._num_workers:
                start = next(waiting, None)
                more = start is not None
                if more:
                    start()
            if self._running:
                ended, _ = ray.wait(list(self._running), num_returns=1)
                job = self._running.pop(ended[0])
                self._take(ended[0], job)
                self._workspace.check()

    def _take(self, ended: ray.ObjectRef, job: _Job) -> None:
        try:
            answer = ray.get(ended)
        except ray.exceptions.WorkerCrashedError:
            if job.instead is None:
                raise _too_many_deaths("WorkerCrashedError") from None
            job.instead()
        except ray.exceptions.RayTaskError as error:
            raise _as_told(error) from error
        except ray.exceptions.RayError as error:
            raise _too_many_deaths(type(error).__name__) from error
        else:
            job.then(answer)

    def _checks(self, numbers: list[int]) -> Iterator[Callable[[], None]]:
        """A check of every shard that an earlier run left."""
        for number in numbers:
            if number < self._plan.num_shards:
                yield lambda number=number: self._start_check(number)

    def _start_check(self, number: int) -> None:
        def then(found: ShardFiles | None) -> None:
            if found is not None:
                self._whole[number] = found

        task = self._check.remote(self._out, self._plan.shard(number), self._plan.settings_fingerprint)
        self._running[task] = _Job(then)

    def _parts(self, numbers: list[int]) -> Iterator[Callable[[], None]]:
        """Every part of the shards that are to be made."""
        size = part_size(sum(self._plan.num_inputs_of(number) for number in numbers), self._num_workers)
        for number in numbers:
            inputs = self._plan.inputs_of(number)
            shard = _OpenShard(number, unfinished=-(-len(inputs) // size))
            for start in range(0, len(inputs), size):
                part = inputs[start : start + size]
                yield lambda shard=shard, part=part: self._start_part(shard, part)

    def _start_part(self, shard: _OpenShard, inputs: list[KeyedInput]) -> None:
        place = len(shard.parts)

        def start(make: Any, instead: Callable[[], None] | None) -> None:
            part, tally = make.remote(inputs, self._recipe)
            shard.parts[place : place + 1] = [part]
            self._running[tally] = _Job(lambda counts: self._count(shard, *counts), instead)

        # A process that dies again and again has an input that kills it: each is then tried in a process of its own.
        start(self._make, instead=lambda: start(self._make_apart, None))

    def _count(self, shard: _OpenShard, num_inputs: int, num_rejected: int) -> None:
        self._progress.advance(num_inputs, num_rejected)
        shard.unfinished -= 1
        if shard.unfinished == 0:
            name = self._plan.shard(shard.number)
            task = self._write.remote(self._out, name, self._plan.settings_fingerprint, list(shard.parts))
            shard.parts.clear()
            self._running[task] = _Job(lambda files: self._whole.update({shard.number: files}))


def part_size(num_inputs: int, num_workers: int) -> int:
    """Inputs per task."""
    return min(_LARGEST_PART, max(_SMALLEST_PART, num_inputs // (8 * num_workers)))


def make_part(inputs: list[KeyedInput], recipe: Recipe, make: Callable[..., Any] = make_sample) -> Part:
    """The samples of some inputs, in tar format.

    Raises:
        OSError: none of several inputs could be read: the disk has failed, not a file.
    """
    results = [make(one, key, recipe) for one, key in inputs]
    failed = [result for result in results if isinstance(result, Rejection) and result.reason.endswith(READ_FAILED)]
    if len(failed) == len(results) > 1:
        raise OSError(f"none of {len(failed)} files can be read (Input/output error), such as {failed[0].source}")
    return build_part(results)


def _make_part(inputs: list[KeyedInput], recipe: Recipe) -> tuple[Part, tuple[int, int]]:
    """Ray task: make a part; also tells the number of inputs and of rejections."""
    cv2.setNumThreads(1)  # Ray runs one task per core
    part = make_part(inputs, recipe)
    return part, (len(inputs), len(part.rejected))


def _make_part_apart(inputs: list[KeyedInput], recipe: Recipe) -> tuple[Part, tuple[int, int]]:
    """Ray task: the same, each input in a process of its own."""
    part = make_part(inputs, recipe, make_sample_apart)
    return part, (len(inputs), len(part.rejected))


def _write_shard(out: Storage, name: str, settings_fingerprint: str, parts: list[ray.ObjectRef]) -> ShardFiles:
    """Ray task: join the parts of a shard, one in memory at a time."""
    return write_shard(out, name, (ray.get(part) for part in parts), settings_fingerprint)


def _as_told(error: ray.exceptions.RayTaskError) -> ViceError:
    """What a task raised, as an error of one line."""
    cause = error.cause
    if isinstance(cause, ViceError):
        return cause
    what = f"a task failed ({type(cause).__name__}: {cause})"
    return WorkError(what, hint="run the same command again to go on; --debug tells more")


def _too_many_deaths(kind: str) -> WorkError:
    what = f"a worker process died {_CRASH_RETRIES + 1} times ({kind})"
    return WorkError(what, hint="give fewer --workers if memory ran out, then run the same command again")

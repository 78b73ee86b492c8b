"""The tasks of a job: parts of shards, spread over processes by Ray, and joined in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import cv2
import ray
import ray.exceptions

from vice.data_specs.errors import ViceError, WorkError
from vice.pipeline.prep.executors import ShardPlan, WriteShard
from vice.pipeline.prep.isolation import killed_decoder, make_sample_apart
from vice.pipeline.prep.part import make_part, part_size
from vice.pipeline.prep.plan import KeyedInput
from vice.pipeline.prep.progress import PictureProgress
from vice.pipeline.prep.ray_session import CRASH_RETRIES
from vice.pipeline.prep.sample import Recipe
from vice.pipeline.prep.shard import Part, ShardFiles, build_part, check_shard
from vice.pipeline.prep.versions import check_versions, package_versions
from vice.pipeline.storage.base import Storage, StoreFailure

_TASKS_PER_WORKER = 2
"""Tasks in flight for each worker: one runs, one waits."""

_WAIT_SECONDS = 10
"""How long at most nothing but waiting is done."""


@dataclass
class _OpenShard:
    """A shard whose parts are being made."""

    number: int
    parts: list[list[ray.ObjectRef]] = field(default_factory=list)
    """In the order of its inputs; of each part one object, or one per input where each is tried alone."""
    unfinished: int = 0


_Death = ray.exceptions.WorkerCrashedError | ray.exceptions.OutOfMemoryError
_DEATHS = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)
"""Of a worker process; the second is a kill by Ray, because its machine has no memory left."""


def _give_up(death: _Death) -> NoReturn:
    raise _too_many_deaths(type(death).__name__) from None


class _Job(NamedTuple):
    """A task in flight."""

    then: Callable[[Any], None]
    """What to do with its answer."""
    instead: Callable[[_Death], None] = _give_up
    """What to do where its process died again and again."""


class RayTasks:
    """The tasks of a job, a bounded number in flight.

    Args:
        out: the folder.
        plan: the shards to be made.
        num_workers: says how many tasks can run at once, which may change while they run.
        check: called after every task; raises where another run has taken OUT.
        writer: how the shard of a number is written.
    """

    def __init__(
        self,
        out: Storage,
        plan: ShardPlan,
        num_workers: Callable[[], int],
        *,
        check: Callable[[], None],
        writer: Callable[[int], WriteShard],
    ):
        self._plan, self._num_workers, self._check_hold, self._writer = plan, num_workers, check, writer
        self._whole: dict[int, ShardFiles] = {}
        self._running: dict[ray.ObjectRef, _Job] = {}
        self._progress: PictureProgress | None = None
        options = {"max_retries": CRASH_RETRIES}
        self._check = ray.remote(**options)(_check_shard)
        # joining parts is waiting for the disk: it takes no core from those that make parts
        self._write = ray.remote(num_cpus=0, **options)(_write_shard)
        self._make = ray.remote(num_returns=2, **options)(_make_part)
        self._make_apart = ray.remote(num_returns=2, **options)(_make_part_apart)
        self._out = ray.put(out)
        self._recipe = ray.put(plan.recipe)
        self._versions = ray.put(package_versions())

    def finish(self, numbers: Sequence[int], begun: Iterable[int] = ()) -> list[ShardFiles]:
        """See `Executor`."""
        plan = self._plan
        self._spread(self._checks([number for number in begun if number in numbers]))
        done = sum(plan.num_inputs_of(number) for number in self._whole)
        rejected = sum(shard.num_rejected for shard in self._whole.values())
        total = sum(plan.num_inputs_of(number) for number in numbers)
        todo = [number for number in numbers if number not in self._whole]
        with PictureProgress(total, done, rejected) as self._progress:
            self._spread(self._parts(todo))
        return [self._whole[number] for number in numbers]

    def _spread(self, starts: Iterable[Callable[[], None]]) -> None:
        """Start tasks as others end, until all have ended."""
        waiting = iter(starts)
        more = True
        while more or self._running:
            while more and len(self._running) < _TASKS_PER_WORKER * self._num_workers():
                start = next(waiting, None)
                more = start is not None
                if more:
                    start()
            if self._running:
                ended, _ = ray.wait(list(self._running), num_returns=1, timeout=_WAIT_SECONDS)
                for task in ended:
                    self._take(task, self._running.pop(task))
                if self._progress:
                    self._progress.advance(0, 0)  # a line is due now and then, also while tasks take long
                self._check_hold()

    def _take(self, ended: ray.ObjectRef, job: _Job) -> None:
        try:
            answer = ray.get(ended)
        except _DEATHS as death:
            job.instead(death)
        except ray.exceptions.RayTaskError as error:
            raise _as_told(error) from error
        except ray.exceptions.RayError as error:
            raise _too_many_deaths(type(error).__name__) from error
        else:
            job.then(answer)

    def _checks(self, numbers: list[int]) -> Iterator[Callable[[], None]]:
        """A check of every shard that an earlier run left."""
        for number in numbers:
            yield lambda number=number: self._start_check(number)

    def _start_check(self, number: int) -> None:
        def then(found: ShardFiles | None) -> None:
            if found is not None:
                self._whole[number] = found

        task = self._check.remote(self._versions, self._out, self._plan.shard(number), self._plan.settings_fingerprint)
        self._running[task] = _Job(then)

    def _parts(self, numbers: list[int]) -> Iterator[Callable[[], None]]:
        """Every part of the shards that are to be made."""
        size = part_size(sum(self._plan.num_inputs_of(number) for number in numbers), self._num_workers())
        for number in numbers:
            inputs = self._plan.inputs_of(number)
            shard = _OpenShard(number, unfinished=-(-len(inputs) // size))
            for start in range(0, len(inputs), size):
                part = inputs[start : start + size]
                yield lambda shard=shard, part=part: self._start_part(shard, part)

    def _start_part(self, shard: _OpenShard, inputs: list[KeyedInput]) -> None:
        part, tally = self._make.remote(self._versions, inputs, self._recipe)
        position = len(shard.parts)
        shard.parts.append([part])

        def instead(_: _Death) -> None:
            # one of its inputs kills the process: each is tried alone
            shard.parts[position] = [None] * len(inputs)
            shard.unfinished += len(inputs) - 1
            for number, one in enumerate(inputs):
                self._start_alone(shard, shard.parts[position], number, one)

        self._running[tally] = _Job(lambda counts: self._count(shard, *counts), instead)

    def _start_alone(self, shard: _OpenShard, parts: list[ray.ObjectRef], number: int, one: KeyedInput) -> None:
        """Start a task for one input of a part; where it takes all memory, it is rejected."""
        parts[number], tally = self._make_apart.remote(self._versions, [one], self._recipe)

        def instead(death: _Death) -> None:
            if not isinstance(death, ray.exceptions.OutOfMemoryError):
                _give_up(death)
            parts[number] = ray.put(build_part([killed_decoder(one.input, "it takes all memory")]))
            self._count(shard, 1, 1)

        self._running[tally] = _Job(lambda counts: self._count(shard, *counts), instead)

    def _count(self, shard: _OpenShard, num_inputs: int, num_rejected: int) -> None:
        self._progress.advance(num_inputs, num_rejected)
        shard.unfinished -= 1
        if shard.unfinished == 0:
            name, write = self._plan.shard(shard.number), self._writer(shard.number)
            task = self._write.remote(
                self._versions, self._out, name, write, [part for parts in shard.parts for part in parts]
            )
            shard.parts.clear()
            self._running[task] = _Job(lambda files: self._whole.update({shard.number: files}))


def _make_part(versions: dict[str, str], inputs: list[KeyedInput], recipe: Recipe) -> tuple[Part, tuple[int, int]]:
    """Ray task: make a part; also returns the number of inputs and of rejections."""
    check_versions(versions)
    cv2.setNumThreads(1)  # Ray runs one task per core
    part = make_part(inputs, recipe)
    return part, (len(inputs), len(part.rejected))


def _make_part_apart(
    versions: dict[str, str], inputs: list[KeyedInput], recipe: Recipe
) -> tuple[Part, tuple[int, int]]:
    """Ray task: make a part, each input in a process of its own."""
    check_versions(versions)
    part = make_part(inputs, recipe, make_sample_apart)
    return part, (len(inputs), len(part.rejected))


def _check_shard(versions: dict[str, str], out: Storage, name: str, settings_fingerprint: str) -> ShardFiles | None:
    """Ray task: what an earlier run made of a shard, if it is whole."""
    check_versions(versions)
    return check_shard(out, name, settings_fingerprint)


def _write_shard(
    versions: dict[str, str], out: Storage, name: str, write: WriteShard, parts: list[ray.ObjectRef]
) -> ShardFiles:
    """Ray task: join the parts of a shard, one in memory at a time."""
    check_versions(versions)
    return write(out, name, (ray.get(part) for part in parts))


def _as_told(error: ray.exceptions.RayTaskError) -> ViceError:
    """What a task raised, as an error of one line."""
    cause = error.cause
    if isinstance(cause, ViceError):
        return cause
    if isinstance(cause, StoreFailure):
        return WorkError(f"a store failed ({cause})", hint="run the same command again to resume")
    if isinstance(cause, ray.exceptions.RaySystemError):
        # Ray names the node in the text alone
        node = re.search(r"\bip=([^,)\s]+)", str(error))
        what = f"a node cannot load the packages of a task ({str(cause).splitlines()[0]})"
        hint = "install the same packages there as on this machine, then run the same command again"
        return WorkError(what, where=node and node[1], hint=hint)
    what = f"a task failed ({type(cause).__name__}: {cause})"
    return WorkError(what, hint="run the same command again to go on; --debug tells more")


def _too_many_deaths(kind: str) -> WorkError:
    what = f"a worker process died {CRASH_RETRIES + 1} times ({kind})"
    return WorkError(what, hint="give fewer --workers if memory ran out, then run the same command again")

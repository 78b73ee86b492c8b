"""The job: a folder of pictures → OUT, spread over processes by Ray. The only module that imports Ray.

Inputs are made in small batches, so that one shard already keeps every worker busy; a shard is written by one task once
all its batches are there. Neither order nor number of workers can change a byte.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import ray
import ray.exceptions

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import ViceError, WorkError
from vice.data_specs.shard_format import (
    DATASET_FILE,
    DatasetRecord,
    PrepSettings,
    read_dataset_record,
)
from vice.pipeline.prep.plan import Plan, make_plan
from vice.pipeline.prep.progress import PictureProgress
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import PreparedSample, make_sample
from vice.pipeline.prep.shard import build_shard, write_shard
from vice.pipeline.prep.totals import complete
from vice.pipeline.prep.workspace import Workspace, refuse_if_other

BATCH = 16
"""Inputs per task."""

_CRASH_RETRIES = 3
"""How often Ray runs a task again whose process died. What a task raises is never retried."""


class Outcome(NamedTuple):
    """What a job came to."""

    record: DatasetRecord
    was_complete: bool
    """Nothing was left to do."""


def shard_dataset(
    source: Path,
    out: Path,
    settings: PrepSettings,
    spec: DatasetSpec,
    *,
    workers: int | None = None,
    ray_address: str | None = None,
) -> Outcome:
    """Shard a folder of pictures into OUT, or finish what an interrupted run left.

    Args:
        source: folder of pictures.
        out: folder of shards.
        settings: everything that decides the bytes.
        spec: how the dataset names its files and classes.
        workers: number of processes; all usable cores (of the cluster) where None.
        ray_address: a running Ray cluster to join, whose machines see both folders under these paths.

    Raises:
        InputError: bad source or OUT, or OUT was begun or made with other settings or inputs.
        WorkError: every input was rejected, another run is writing, or the work failed.
    """
    plan = make_plan(source, settings, spec)
    if (out / DATASET_FILE).exists():
        refuse_if_other(out, plan)
        return Outcome(read_dataset_record(out), was_complete=True)
    with Workspace(out.absolute(), plan) as workspace:
        todo = [number for number in range(plan.num_shards) if not workspace.is_complete(number)]
        done = len(plan.order) - sum(len(plan.positions(number)) for number in todo)
        if todo:
            with _ray(workers, ray_address) as num_workers, PictureProgress(len(plan.order), done) as progress:
                _make_shards(workspace, todo, num_workers, progress)
        return Outcome(complete(workspace), was_complete=False)


@contextmanager
def _ray(workers: int | None, address: str | None) -> Iterator[int]:
    """Start a Ray of our own, or join a running one; yields how many tasks it can run at once."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            workers = workers or len(os.sched_getaffinity(0))
            ray.init(address="local", num_cpus=workers, num_gpus=0, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
            cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
            workers = min(workers or cores, cores)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise WorkError(f"Ray cannot be started or joined ({error})", where=address or "this machine") from None
    try:
        yield workers
    finally:
        ray.shutdown()


@dataclass
class _OpenShard:
    """A shard whose batches are being made."""

    number: int
    batches: list[ray.ObjectRef] = field(default_factory=list)
    """Results of its batches, in the order of its inputs."""
    unfinished: int = 0


def _make_shards(workspace: Workspace, todo: list[int], num_workers: int, progress: PictureProgress) -> None:
    """Make the named shards, with at most two tasks per worker in flight."""
    plan = workspace.plan
    make_batch = ray.remote(num_returns=2, max_retries=_CRASH_RETRIES)(_make_batch)
    write = ray.remote(max_retries=_CRASH_RETRIES)(_write)
    how = ray.put((plan.source, plan.spec, plan.settings))
    waiting = deque(_batches(plan, todo))
    running: dict[ray.ObjectRef, _OpenShard | None] = {}
    while waiting or running:
        while waiting and len(running) < 2 * num_workers:
            shard, inputs = waiting.popleft()
            results, tally = make_batch.remote(inputs, how)
            shard.batches.append(results)
            running[tally] = shard
        finished, _ = ray.wait(list(running), num_returns=1)
        shard = running.pop(finished[0])
        answer = _answer(finished[0])
        if shard is None:
            continue
        progress.advance(*answer)
        shard.unfinished -= 1
        if shard.unfinished == 0:
            places = (workspace.shards, workspace.rows, plan.shard(shard.number))
            running[write.remote(*places, plan.settings_fingerprint, *shard.batches)] = None
            shard.batches.clear()


def _batches(plan: Plan, todo: list[int]) -> Iterator[tuple[_OpenShard, list[tuple[str, str]]]]:
    """Every batch of the named shards: its shard, and path and key of its inputs."""
    for number in todo:
        places = plan.positions(number)
        batches = [places[start : start + BATCH] for start in range(0, len(places), BATCH)]
        shard = _OpenShard(number, unfinished=len(batches))
        for batch in batches:
            yield shard, [(plan.order[position], plan.key(position)) for position in batch]


def _make_batch(
    inputs: list[tuple[str, str]], how: tuple[Path, DatasetSpec, PrepSettings]
) -> tuple[list[PreparedSample | Rejection], tuple[int, int]]:
    """Ray task: make the samples of some inputs (path and key); also tells the number of inputs and of rejections."""
    cv2.setNumThreads(1)  # Ray runs one task per core
    root, spec, settings = how
    results = [make_sample(root, path, key, spec, settings) for path, key in inputs]
    return results, (len(results), sum(isinstance(result, Rejection) for result in results))


def _write(
    shards: Path, rows: Path, name: str, settings_fingerprint: str, *batches: list[PreparedSample | Rejection]
) -> None:
    """Ray task: build a shard from its batches and write it."""
    results = list(itertools.chain.from_iterable(batches))
    write_shard(shards, rows, name, build_shard(name, results, settings_fingerprint))


def _answer(reference: ray.ObjectRef) -> Any:
    """What a task returned; what it raised, told in one line."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ViceError):
            raise cause from error
        what = f"a task failed ({type(cause).__name__}: {cause})"
        raise WorkError(what, hint="run the same command again to go on; --debug tells more") from error
    except ray.exceptions.RayError as error:
        what = f"a worker process died {_CRASH_RETRIES + 1} times ({type(error).__name__})"
        raise WorkError(what, hint="give fewer --workers if memory ran out, then run the same command again") from error

"""The job: a source → OUT, spread over processes by Ray.

A shard is a pure function of its inputs and the settings. Its parts are made by one task each, so that a single shard
already keeps every worker busy, and one more task joins them. Neither order nor number of workers can change a byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import DATASET_FILE, DatasetRecord, PrepSettings
from vice.pipeline.prep.damage import missing_shards
from vice.pipeline.prep.earlier import Earlier
from vice.pipeline.prep.executors import joined, open_executor
from vice.pipeline.prep.kept_tars import KeptTars
from vice.pipeline.prep.plan import Plan, make_plan
from vice.pipeline.prep.repair import clear_leftovers, repair_shards
from vice.pipeline.prep.totals import complete
from vice.pipeline.prep.workspace import Workspace, refuse_if_other
from vice.pipeline.shards import Shards
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.opening import open_storage


class Outcome(NamedTuple):
    """What a job came to."""

    record: DatasetRecord
    was_complete: bool
    """No input was left to do."""
    repaired: int = 0
    """Shards of a complete OUT that were missing or damaged, and were made again."""

    @property
    def headline(self) -> str:
        """A line that says what was done."""
        if self.repaired:
            return f"complete: made {self.repaired} missing or damaged shard{'s' * (self.repaired > 1)} again"
        return "nothing to do: complete already" if self.was_complete else "complete"


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
        workers: number of processes; 0 is this process alone, without Ray; None is all usable cores (of the cluster).
        ray_address: a running Ray cluster to join, whose machines see source and OUT under the same addresses.

    Raises:
        InputError: bad source or OUT, or OUT was begun or made with other settings or inputs.
        WorkError: every input was rejected, another run is writing, or the work failed.
    """
    storage = open_storage(out)
    kept = KeptTars(storage)
    plan = make_plan(source, settings, spec, kept)
    with reported_in_one_line(storage):
        if storage.exists(DATASET_FILE):
            refuse_if_other(storage, plan)
            shards = Shards(storage)
            damaged = missing_shards(shards)
            if not damaged:
                clear_leftovers(storage)
            else:
                repair_shards(shards, plan.inputs, damaged, workers=workers, ray_address=ray_address)
            return Outcome(shards.record, was_complete=True, repaired=len(damaged))
        record = make_shards(storage, plan, kept=kept, workers=workers, ray_address=ray_address)
        return Outcome(record, was_complete=False)


def make_shards(
    out: Storage,
    plan: Plan,
    earlier: Earlier | None = None,
    *,
    kept: KeptTars | None = None,
    workers: int | None,
    ray_address: str | None,
) -> DatasetRecord:
    """Make the shards of a plan, or those that an interrupted run left, and complete OUT.

    Args:
        out: the folder.
        plan: its inputs and settings.
        earlier: OUT as it is, where inputs are appended to a complete one.
        kept: listings of tars to be kept until OUT is complete.
        workers: see `shard_dataset`.
        ray_address: see `shard_dataset`.
    """
    workspace = Workspace(out, plan, earlier, kept)
    workspace.refuse_unusable()
    with (
        joined(workers, ray_address),
        workspace,
        open_executor(out, plan, workers=workers, ray_address=ray_address, check=workspace.check) as executor,
    ):
        return complete(workspace, executor.finish(plan.numbers, workspace.begun_shards()))


@contextmanager
def reported_in_one_line(out: Storage) -> Iterator[None]:
    """Errors of a disk or store, as an error of one line."""
    try:
        yield
    except OSError as error:
        what = f"a disk or store failed ({error})"
        raise WorkError(what, where=out.address, hint="run the same command again to go on") from error

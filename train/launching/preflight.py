"""What can be checked before any process starts, without torch: a mistake is reported before anything is written."""

from __future__ import annotations

from pathlib import Path

from vice.data_specs.errors import InputError
from vice.data_specs.regions import grid_cell
from vice.pipeline.loader.order import SampleOrder
from vice.pipeline.region_vectors import RegionVectors
from vice.pipeline.shards import Shards
from vice.train.assignment.method import METHODS
from vice.train.config import TrainConfig
from vice.train.records.run_dir import check_run
from vice.train.records.run_shards import shards_of_run


def check(config: TrainConfig, shards_dir: str, run_dir: Path, *, num_processes: int | None) -> None:
    """Check shards, region layer, batch, concepts, cache and run folder against a configuration.

    Args:
        config: the resolved configuration.
        shards_dir: what to train on, on a disk or an object store.
        run_dir: the run's folder, new or of the same configuration.
        num_processes: over all nodes; None while it is not known: what depends on it is not checked.

    Raises:
        InputError: the first thing that does not fit.
    """
    config.check_terms()
    shards = shards_of_run(run_dir, Shards(shards_dir))
    if grid_cell(config.views.regions) is None:
        shards.layer_named(config.views.regions)
    if num_processes is not None:
        order = SampleOrder(len(shards), global_batch=config.global_batch, seed=config.seed, world_size=num_processes)
        _check_assignment(config, shards, num_steps=order.steps(config.epochs), num_processes=num_processes)
    if config.teacher is not None:
        RegionVectors(config.teacher).check(shards, config.views.regions)
    _check_cache(config, shards)
    check_run(run_dir, config)


def _check_assignment(config: TrainConfig, shards: Shards, *, num_steps: int, num_processes: int) -> None:
    """Refuse concepts that no step would move, and what the method itself refuses."""
    if not config.assigns:
        return
    method, assignment = METHODS[config.assignment.method], config.assignment
    if method.learns_concepts and assignment.freeze_concepts_steps >= num_steps:
        what = f"concepts are frozen for {assignment.freeze_concepts_steps} steps, and the run has {num_steps}"
        hint = "lower it, or raise epochs"
        raise InputError(what, where="assignment.freeze_concepts_steps", hint=hint)
    method.check(config, shards, num_processes=num_processes)


def _check_cache(config: TrainConfig, shards: Shards) -> None:
    """Refuse a cache that cannot hold the tars of two windows: they would be fetched again and again."""
    if config.cache_bytes is None:
        return
    sizes = sorted(entry.size for entry in shards.storage.walk() if entry.path.endswith(".tar"))
    most = 2 * config.shuffle_window or len(sizes)
    needed = sum(sizes[-most:])
    if config.cache_bytes < needed:
        what = f"cache_gb={config.cache_gb:g} does not hold the {min(most, len(sizes))} tars that are in use at once"
        hint = f"give cache_gb={-(-needed // 10**6) / 1000} or more, or mix fewer shards with shuffle_window"
        raise InputError(what, where=shards.address, hint=hint)

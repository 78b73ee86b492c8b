"""What can be checked before any process starts, without torch: a mistake is told at once and nothing is written."""

from __future__ import annotations

from pathlib import Path

from vice.data_specs.regions import grid_cell
from vice.pipeline.loader.order import SampleOrder
from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.run_dir import check_run


def check(config: TrainConfig, shards_dir: Path, run_dir: Path, *, num_processes: int) -> None:
    """Check shards, region layer, batch and run folder against a configuration.

    Args:
        config: the resolved configuration.
        shards_dir: what to train on.
        run_dir: the run's folder, new or of the same configuration.
        num_processes: over all nodes.

    Raises:
        InputError: the first thing that does not fit.
    """
    shards = Shards(shards_dir)
    if grid_cell(config.views.regions) is None:
        shards.layer_named(config.views.regions)
    SampleOrder(len(shards), global_batch=config.global_batch, seed=config.seed, world_size=num_processes)
    check_run(run_dir, config)

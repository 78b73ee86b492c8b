"""Starting the processes of a run: torch's elastic launcher as a library, or in place under an outer torchrun."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.regions import grid_cell
from vice.pipeline.loader.order import SampleOrder
from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.run_dir import open_run
from vice.train.worker import work


def default_processes() -> int:
    """One process a GPU, or one on the CPU."""
    return torch.cuda.device_count() or 1


def launch(
    config: TrainConfig, shards_dir: Path, run_dir: Path, *, num_processes: int, nodes: str, endpoint: str
) -> None:
    """Check everything that can be checked, then train with so many processes on this node.

    Args:
        config: the resolved configuration.
        shards_dir: what to train on.
        run_dir: made, or gone on with.
        num_processes: on this node.
        nodes: `N` or `MIN:MAX` nodes.
        endpoint: `host:port` where nodes meet; empty for one node.

    Raises:
        InputError: wrong shards, layer, batch or run folder; nothing was written.
        WorkError: a process failed; says why.
    """
    shards = Shards(shards_dir)
    if grid_cell(config.views.regions) is None:
        shards.layer_named(config.views.regions)
    outer = "RANK" in os.environ
    world_size = int(os.environ["WORLD_SIZE"]) if outer else num_processes
    SampleOrder(len(shards), global_batch=config.global_batch, seed=config.seed, world_size=world_size)
    if not outer or os.environ["RANK"] == "0":
        open_run(run_dir, config)
    if outer:
        work(shards_dir, run_dir)
    else:
        _start_processes(shards_dir, run_dir, num_processes, nodes, endpoint)


def _start_processes(shards_dir: Path, run_dir: Path, num_processes: int, nodes: str, endpoint: str) -> None:
    fewest, _, most = nodes.partition(":")
    if not (fewest.isdigit() and (most or fewest).isdigit()):
        raise InputError("not a number of nodes", where=f"--nnodes {nodes}", hint="write N or MIN:MAX")
    # the launcher's own report of a failed child is a page long; ours is one line
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    settings = LaunchConfig(
        min_nodes=int(fewest),
        max_nodes=int(most or fewest),
        nproc_per_node=num_processes,
        run_id=run_dir.resolve().name,
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint or "localhost:0",
        max_restarts=0,
    )
    command = ["-m", "vice.train.worker", str(shards_dir), str(run_dir)]
    try:
        elastic_launch(settings, sys.executable)(*command)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise WorkError(_reason(failure.message), where=f"process {rank}", hint="launch again to go on") from None


def _reason(message: str | dict) -> str:
    """The one line of a worker's error, out of torch's record of it."""
    if isinstance(message, str):
        try:
            message = json.loads(message)
        except json.JSONDecodeError:
            return message
    inner = message.get("message", message)
    text = inner.get("message", str(inner)) if isinstance(inner, dict) else str(inner)
    return text.removeprefix("WorkError: ").removeprefix("InputError: ")

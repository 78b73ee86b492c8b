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
from vice.train.config import TrainConfig
from vice.train.preflight import check
from vice.train.run_dir import open_run
from vice.train.worker import work


def launch(
    config: TrainConfig, shards_dir: str, run_dir: Path, *, num_processes: int | None, nodes: str, endpoint: str
) -> None:
    """Train with so many processes on this node, or as one of an outer launcher's processes.

    Args:
        config: the resolved configuration.
        shards_dir: what to train on, on a disk or an object store.
        run_dir: made, or gone on with.
        num_processes: on this node; None is one a GPU, or one on the CPU.
        nodes: `N` or `MIN:MAX` nodes.
        endpoint: `host:port` where nodes meet; empty for one node.

    Raises:
        InputError: what `preflight.check` finds.
        WorkError: a process failed; says why.
    """
    num_processes = num_processes or torch.cuda.device_count() or 1
    rank, world_size = os.environ.get("RANK"), int(os.environ.get("WORLD_SIZE", num_processes))
    check(config, shards_dir, run_dir, num_processes=world_size)
    if rank in {None, "0"}:
        open_run(run_dir, config)
    if rank is None:
        _start_processes(shards_dir, run_dir, num_processes, nodes, endpoint)
    else:
        work(config, shards_dir, run_dir)


def _start_processes(shards_dir: str, run_dir: Path, num_processes: int, nodes: str, endpoint: str) -> None:
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
    command = ["-m", "vice.train.worker", shards_dir, str(run_dir)]
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
    if text.startswith("To enable traceback"):
        # not one of our errors: the worker printed its traceback, or it was killed
        return "a training process died (its own message, if it had time for one, is above)"
    return text.removeprefix("WorkError: ").removeprefix("InputError: ")

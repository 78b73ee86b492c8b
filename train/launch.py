"""Starting the processes of a run: torch's elastic launcher as a library, or in place under torchrun or Slurm."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from vice.data_specs.errors import InputError, WorkError
from vice.train.config import TrainConfig
from vice.train.failure import clear_failure, read_failure
from vice.train.preflight import check
from vice.train.run_dir import open_run
from vice.train.worker import work

_GO_ON = "launch again to go on from the last checkpoint"


def launch(
    config: TrainConfig,
    shards_dir: str,
    run_dir: Path,
    *,
    num_processes: int | None,
    nodes: str,
    endpoint: str,
    max_restarts: int,
) -> None:
    """Train with so many processes on this node, or as one of an outer launcher's processes.

    Args:
        config: the resolved configuration.
        shards_dir: what to train on, on a disk or an object store.
        run_dir: made, or gone on with.
        num_processes: on this node; None is one a GPU, or one on the CPU.
        nodes: `N` or `MIN:MAX` nodes.
        endpoint: `host:port` where nodes meet; empty for one node.
        max_restarts: how often processes are started again after one has died, from the last checkpoint.

    Raises:
        InputError: what `preflight.check` finds, more processes than GPUs, or nodes that cannot meet.
        WorkError: a process failed, or died too often; says why.
    """
    num_processes = num_processes or torch.cuda.device_count() or 1
    rank, world_size = os.environ.get("RANK"), int(os.environ.get("WORLD_SIZE", num_processes))
    check(config, shards_dir, run_dir, num_processes=world_size)
    if rank in {None, "0"}:
        open_run(run_dir, config)
        clear_failure(run_dir)
    if rank is not None:
        work(config, shards_dir, run_dir)
        return
    _check_gpus(num_processes)
    settings = _launch_settings(run_dir, num_processes, nodes, endpoint, max_restarts)
    _start_processes(settings, shards_dir, run_dir)


def _check_gpus(num_processes: int) -> None:
    if 0 < torch.cuda.device_count() < num_processes:
        what = f"{num_processes} processes for {torch.cuda.device_count()} GPUs"
        raise InputError(what, where="--nproc", hint="give each process a GPU; CUDA_VISIBLE_DEVICES decides which")


def _launch_settings(run_dir: Path, num_processes: int, nodes: str, endpoint: str, max_restarts: int) -> LaunchConfig:
    fewest, _, most = nodes.partition(":")
    if not (fewest.isdigit() and (most or fewest).isdigit()):
        raise InputError("not a number of nodes", where=f"--nnodes {nodes}", hint="write N or MIN:MAX")
    return LaunchConfig(
        min_nodes=int(fewest),
        max_nodes=int(most or fewest),
        nproc_per_node=num_processes,
        run_id=run_dir.resolve().name,
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint or "localhost:0",
        max_restarts=max_restarts,
        monitor_interval=1,
    )


def _start_processes(settings: LaunchConfig, shards_dir: str, run_dir: Path) -> None:
    # the launcher's own report of a failed child is a page long; ours is one line
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    command = ["-m", "vice.train.worker", shards_dir, str(run_dir)]
    try:
        elastic_launch(settings, sys.executable)(*command)
    except ChildFailedError as error:
        failure = read_failure(run_dir)
        if failure is not None:
            raise failure from None
        rank, found = error.get_first_failure()
        what = f"a training process died, after {settings.max_restarts} restarts (its own message, if any, is above)"
        raise WorkError(what, where=f"process {rank}, {_ended(found.exitcode)}", hint=_GO_ON) from None
    except SignalException as stop:
        raise WorkError(f"stopped by {stop.sigval.name}", where=run_dir, hint=_GO_ON) from None
    except (RendezvousError, ValueError) as error:
        reason = str(error).splitlines()[0]
        hint = "give host:port of one of the nodes as --endpoint, the same on all"
        raise InputError(f"the nodes cannot meet ({reason})", where=settings.rdzv_endpoint, hint=hint) from None


def _ended(code: int) -> str:
    """How a process ended, by its exit code."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

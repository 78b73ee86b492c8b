"""Starting the processes of a run: torch's elastic launcher as a library, or in place under torchrun or `srun`."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Thread

import torch
import torch.distributed as dist
from torch.distributed import TCPStore
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from vice.data_specs.errors import InputError, ViceError, WorkError
from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.distributed import MEETING_SECONDS
from vice.train.launching.defaults import with_precision
from vice.train.launching.preflight import check
from vice.train.launching.slurm import process_variables
from vice.train.launching.worker import work
from vice.train.records.failure import clear_failure, failure_before_restart, num_restarts, read_failure
from vice.train.records.run_dir import open_run, resume_point
from vice.train.records.run_shards import note_shards


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
        max_restarts: how often processes that die are started again.

    Raises:
        InputError: what `preflight.check` finds; processes or nodes that cannot be.
        WorkError: a process failed, or the launcher was told to end; says why.
    """
    if not endpoint:
        _use_slurm(num_processes)
    rank = os.environ.get("RANK")
    if rank is None:
        settings = _settings(run_dir, _processes_here(num_processes), nodes, endpoint, max_restarts)
        of_all = settings.nproc_per_node * settings.min_nodes
    else:
        of_all = int(os.environ["WORLD_SIZE"])
    config = with_precision(config, num_processes=of_all)
    check(config, shards_dir, run_dir, num_processes=of_all)
    failure = failure_before_restart(run_dir)
    if failure:
        raise failure
    if rank in {None, "0"}:
        open_run(run_dir, config)
        note_shards(run_dir, Shards(shards_dir))
        if not num_restarts():
            clear_failure(run_dir)
    if rank is None:
        _start_processes(settings, shards_dir, run_dir)
    else:
        work(config, shards_dir, run_dir)


def _use_slurm(num_processes: int | None) -> None:
    """Be the process that Slurm's task stands for, where there are several tasks."""
    variables = process_variables(os.environ)
    if variables and num_processes:
        what = f"--nproc {num_processes} in each of {variables['WORLD_SIZE']} tasks of srun"
        raise InputError(what, hint="leave it out, or run one task a node with --nnodes and --endpoint")
    os.environ.update(variables)


def _processes_here(asked: int | None) -> int:
    """Processes of this node: those asked for, or one a GPU, or one."""
    gpus = torch.cuda.device_count()
    if asked and gpus and asked > gpus:
        raise InputError(f"--nproc {asked} on a machine with {gpus} GPUs", hint=f"give {gpus} or fewer")
    return asked or gpus or 1


def _settings(run_dir: Path, num_processes: int, nodes: str, endpoint: str, max_restarts: int) -> LaunchConfig:
    fewest, _, most = nodes.partition(":")
    most = most or fewest
    if not (fewest.isdigit() and most.isdigit() and 1 <= int(fewest) <= int(most)):
        raise InputError("not a number of nodes", where=f"--nnodes {nodes}", hint="write N or MIN:MAX")
    if int(most) > 1 and not endpoint:
        raise InputError(f"--nnodes {nodes} without --endpoint", hint="give one node's host:port, alike on every node")
    if endpoint:
        _check_endpoint(endpoint)
    return LaunchConfig(
        min_nodes=int(fewest),
        max_nodes=int(most),
        nproc_per_node=num_processes,
        run_id=run_dir.resolve().name,
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint or "localhost:0",
        rdzv_configs={"read_timeout": MEETING_SECONDS},
        max_restarts=max_restarts,
    )


def _check_endpoint(endpoint: str) -> None:
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit() or int(port) >= 2**16:
        raise InputError("not an address", where=f"--endpoint {endpoint}", hint="write host:port, as in node1:29400")
    host = host.strip("[]")
    try:
        socket.getaddrinfo(host, int(port))
    except OSError:
        hint = "give a host that this one knows"
        raise InputError("no such host", where=f"--endpoint {endpoint}", hint=hint) from None
    if not _may_be_store(host, int(port)):
        hint = "give a port that is free on that host"
        raise InputError("another program listens", where=f"--endpoint {endpoint}", hint=hint)


def _may_be_store(host: str, port: int) -> bool:
    """Whether nothing listens there yet, or another node's launcher; a silent listener would be waited for for ever."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return True
    met = []
    # a thread, since torch's attempt has no end where nothing is answered
    attempt = Thread(target=_meet, args=(host, port, met), daemon=True)
    attempt.start()
    attempt.join(MEETING_SECONDS)
    return bool(met)


def _meet(host: str, port: int, met: list[TCPStore]) -> None:
    with suppress(dist.DistError):
        met.append(TCPStore(host, port, is_master=False, timeout=timedelta(seconds=MEETING_SECONDS)))


def _start_processes(settings: LaunchConfig, shards_dir: str, run_dir: Path) -> None:
    _silence_elastic()
    command = ["-m", "vice.train.launching.worker", shards_dir, str(run_dir)]
    try:
        elastic_launch(settings, sys.executable)(*command)
    except ChildFailedError as error:
        raise _reason(error, run_dir, settings.max_restarts) from None
    except SignalException as error:
        raise _ended_by(error.sigval, run_dir) from None
    except RendezvousError:
        what = "the nodes did not meet: nothing answers, or not all of them came"
        hint = "start the same command on every node, with one node's host and a free port"
        raise WorkError(what, where=f"--endpoint {settings.rdzv_endpoint}", hint=hint) from None


def _silence_elastic() -> None:
    """No reports of torch's launcher, which are pages long where ours are one line; each module has its own logger."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _reason(error: ChildFailedError, run_dir: Path, max_restarts: int) -> ViceError:
    """The known failure, or how the process died that ended the last of all attempts."""
    failure = read_failure(run_dir)
    if failure:
        return failure
    rank, died = error.get_first_failure()
    how = f"ended with exit code {died.exitcode} (its message is above)"
    if died.exitcode < 0:
        how = f"was killed by {signal.Signals(-died.exitcode).name}"
        if died.exitcode == -signal.SIGKILL:
            how += ", as the system does when memory runs out"
    hint = f"launch again to go on from {resume_point(run_dir)}"
    return WorkError(f"process {rank} {how}", where=f"no restart left of {max_restarts}", hint=hint)


def _ended_by(number: signal.Signals, run_dir: Path) -> WorkError:
    """What to say when the launcher itself was told to end; by now its processes have ended."""
    error = WorkError(f"ended by {number.name}", hint=f"launch again to go on from {resume_point(run_dir)}")
    # as shells report it
    error.exit_code = 128 + number
    return error

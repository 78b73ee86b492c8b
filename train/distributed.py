"""All collectives in one place, guarded: with one process they do nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from vice.data_specs.errors import InputError, ViceError, WorkError
from vice.pipeline.loader.loader import MOST_THREADS

MEETING_SECONDS = 60
"""How long processes wait until the address answers where they meet."""


class Process(NamedTuple):
    """This process among all."""

    rank: int
    world_size: int
    device: torch.device


def start() -> Process:
    """Join the process group that the launcher describes (NCCL on GPUs, gloo on the CPU); one process joins none.

    Raises:
        InputError: there is no GPU for this process.
        WorkError: the address where the processes meet does not answer.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if torch.cuda.is_available():
        device = torch.device("cuda", gpu_of(int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()))
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
        # of the cores that this process may use one is left to the loader's threads: on two cores one thread of torch
        # is as fast as two (34 and 35 views/s on quiet cores), and suffers less from whatever else runs there
        torch.set_num_threads(_share_of(len(os.sched_getaffinity(0)) - 1))
    if world_size > 1:
        _join("nccl" if device.type == "cuda" else "gloo")
    return Process(rank, world_size, device)


def gpu_of(local_rank: int, num_gpus: int) -> int:
    """Which of the GPUs that a process sees is its own: the only one (Slurm may show no other), or the rank's.

    Raises:
        InputError: there are more processes than GPUs.
    """
    if num_gpus > 1 and local_rank >= num_gpus:
        hint = f"start {num_gpus} processes a node or fewer"
        raise InputError(f"no GPU for process {local_rank} of this node, which has {num_gpus}", hint=hint)
    return local_rank if num_gpus > 1 else 0


def _join(backend: str) -> None:
    """Meet the other processes at MASTER_ADDR; torch itself would wait there for half an hour."""
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=timedelta(seconds=MEETING_SECONDS)))
    except (dist.DistNetworkError, dist.DistStoreError):
        hint = "MASTER_ADDR must be the host of process 0, MASTER_PORT free there and open to the others"
        raise WorkError("the processes cannot meet", where=address, hint=hint) from None
    # from here on a slow process is no sign of a wrong address
    store.set_timeout(dist.default_pg_timeout)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)


def is_lost_peer(error: Exception) -> bool:
    """Whether a collective failed since another process is gone."""
    # gloo has no type of its own, and several words for it
    return is_distributed() and (isinstance(error, dist.DistError) or "gloo/transport" in str(error))


def loader_threads() -> int:
    """Threads of this process's loader: its share of the cores that the machine's processes may use."""
    return min(_share_of(len(os.sched_getaffinity(0))), MOST_THREADS)


def _share_of(cores: int) -> int:
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_distributed() -> bool:
    """Whether there is more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if is_distributed() else 1


def sum_over_processes(values: Tensor) -> Tensor:
    """Sum of every process's tensor of this shape; a new tensor, without gradient."""
    return _reduced(values, dist.ReduceOp.SUM)


def max_over_processes(values: Tensor) -> Tensor:
    """Largest of every process's tensor of this shape; a new tensor, without gradient."""
    return _reduced(values, dist.ReduceOp.MAX)


def min_over_processes(values: Tensor) -> Tensor:
    """Smallest of every process's tensor of this shape; a new tensor, without gradient."""
    return _reduced(values, dist.ReduceOp.MIN)


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all processes in the order of ranks; every process may have another number of them."""
    if not is_distributed():
        return rows
    counts = [torch.zeros((), dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    most = max(int(count) for count in counts)
    padded = rows.new_zeros(most, *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def gather_objects(found: Any) -> list[Any]:
    """Every process's object, in the order of ranks; slow, for what is said and not computed with."""
    if not is_distributed():
        return [found]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, found)
    return gathered


def barrier() -> None:
    """Wait for all processes."""
    if is_distributed():
        dist.barrier()


def _reduced(values: Tensor, operation) -> Tensor:
    values = values.detach().clone()
    if is_distributed():
        dist.all_reduce(values, operation)
    return values


def broadcast_from_first(make: Callable[[], Any]) -> Any:
    """What the first process makes, given to all; the others wait. An error of the first one is raised in all."""
    if not is_distributed():
        return make()
    made: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            made = [make()]
        except ViceError as error:
            made = [error]
    dist.broadcast_object_list(made, src=0)
    if isinstance(made[0], ViceError):
        raise made[0]
    return made[0]

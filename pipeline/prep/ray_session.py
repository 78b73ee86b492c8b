"""Ray while a job runs: one of our own on this machine, or a running cluster that is joined."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from vice.data_specs.errors import WorkError

CRASH_RETRIES = 3
"""How often Ray runs a task again whose process or node died. What a task raises is never retried."""

_CONNECT_SECONDS = 10
"""Time that a cluster has to answer; Ray itself would try for two minutes."""


@contextmanager
def ray_session(workers: int | None, address: str | None) -> Iterator[int]:
    """Start a Ray of our own, or join a running one; yields how many tasks it can run at once.

    Args:
        workers: number of processes; all usable cores (of the cluster) where None.
        address: of the cluster to join.

    Raises:
        WorkError: Ray cannot be started, or no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # by default Ray repeats for ever what is killed because it takes all memory; the driver's setting counts
    os.environ.setdefault("RAY_task_oom_retries", str(CRASH_RETRIES))
    try:
        with _keeping_sigterm():
            num_workers = _start(workers) if address is None else _join(workers, address)
        yield num_workers
    finally:
        ray.shutdown()


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


def _start(workers: int | None) -> int:
    workers = workers or len(os.sched_getaffinity(0))
    try:
        ray.init(address="local", num_cpus=workers, num_gpus=0, include_dashboard=False, **_QUIET)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise WorkError(f"Ray cannot be started ({error})", where="this machine", hint=_start_hint(error)) from None
    return workers


def _start_hint(error: Exception) -> str:
    """The variable to set, by the folder that Ray could not use."""
    if os.path.expanduser("~") in str(error):  # noqa: PTH111 - a home that cannot be determined is no error here
        return "set HOME to a folder that you can write to"
    return "set RAY_TMPDIR to a folder of your own with a short path"


def _join(workers: int | None, address: str) -> int:
    hint = "give the address that `ray start --head` printed to --ray-address"
    try:
        _check_answers(address)
        ray.init(address=address, **_QUIET)
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise WorkError(f"no Ray cluster can be joined ({error})", where=address, hint=hint) from None
    return min(workers or cores, cores)


def _check_answers(address: str) -> None:
    """Try to connect to `host:port`; addresses of other forms are Ray's to check.

    Raises:
        OSError: nothing answers.
    """
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Let SIGTERM do what it did before: while Ray starts it sets a handler that ends the process without a word."""
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:
            handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)

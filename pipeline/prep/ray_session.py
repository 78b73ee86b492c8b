"""Ray while a job runs: one of our own on this machine, or a running cluster that is joined."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from vice.data_specs.errors import WorkError

CRASH_RETRIES = 3
"""How often Ray runs a task again whose process or node died. What a task raises is never retried."""

_CONNECT_SECONDS = 10
"""Time that a cluster has to answer; Ray itself would try for two minutes."""


_HTTP2_SETTINGS = b"\4"
"""Type of the first frame that either side sends (RFC 9113, section 3.4)."""

_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _HTTP2_SETTINGS + bytes(5)

_REFRESH_SECONDS = 5
"""How often the cores of a cluster are counted."""


@contextmanager
def started_ray(workers: int | None) -> Iterator[int]:
    """Start a Ray of our own; yields the number of its workers.

    Args:
        workers: number of processes; all usable cores where None.

    Raises:
        WorkError: Ray cannot be started.
    """
    with _session():
        with _keeping_sigterm():
            num_workers = _start(workers)
        yield num_workers


@contextmanager
def joined_cluster(address: str) -> Iterator[None]:
    """Join a running Ray cluster.

    Args:
        address: `host:port`, as `ray start --head` prints it.

    Raises:
        WorkError: no cluster answers there.
    """
    with _session():
        with _keeping_sigterm():
            _join(address)
        yield


class ClusterCores:
    """How many tasks a joined cluster can run at once; nodes may join and leave meanwhile.

    Args:
        limit: upper limit; None for all of them.
    """

    def __init__(self, limit: int | None):
        self._limit = limit
        self._cores, self._counted = 1, -math.inf

    def __call__(self) -> int:
        """The number of cores, as counted in the last seconds."""
        now = time.monotonic()
        if now - self._counted > _REFRESH_SECONDS:
            self._cores, self._counted = max(1, int(ray.cluster_resources().get("CPU", 1))), now
        return min(self._limit or self._cores, self._cores)


@contextmanager
def _session() -> Iterator[None]:
    """Ray's settings before, and its end after a job."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # by default Ray repeats for ever what is killed because it takes all memory; the driver's setting counts
    os.environ.setdefault("RAY_task_oom_retries", str(CRASH_RETRIES))
    try:
        yield
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


def _join(address: str) -> None:
    hint = "give the address that `ray start --head` printed to --ray-address"
    try:
        _check_answers(address)
        ray.init(address=address, **_QUIET)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise WorkError(f"no Ray cluster can be joined ({error})", where=address, hint=hint) from None


def _check_answers(address: str) -> None:
    """Try to connect to `host:port`; addresses of other forms are Ray's to check.

    Raises:
        OSError: nothing answers, or not by HTTP/2, which Ray speaks: it would try for minutes.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host:
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS) as connection:
        connection.sendall(_HTTP2_PREFACE)
        frame = connection.recv(9)
    if frame[3:4] != _HTTP2_SETTINGS:
        raise ConnectionError("another program answers there")


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

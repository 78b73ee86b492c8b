"""One training process, as the launcher (ours, torchrun or Slurm) starts it: `python -m vice.train.launching.worker`.

torch is imported late: a restart after a known failure ends before that, and at once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from vice.data_specs.errors import ViceError
from vice.train.config import TrainConfig
from vice.train.records.failure import failure_before_restart, num_restarts, read_failure, write_failure
from vice.train.records.run_dir import hold_run, read_run_config, resume_point

_PR_SET_PDEATHSIG = 1


def work(config: TrainConfig, shards_dir: str, run_dir: Path) -> None:
    """Train as one process of the group that the environment describes.

    Args:
        config: the resolved configuration.
        shards_dir: what to train on, on a disk or an object store.
        run_dir: where checkpoints and metrics go, and the failure if there is one.

    Raises:
        ViceError: what this process found out.
        SystemExit: another process failed with a known error, which it tells.
    """
    from vice.pipeline.shards import Shards
    from vice.train import distributed
    from vice.train.loop import train
    from vice.train.records.run_shards import shards_of_run

    try:
        process = distributed.start()
        with hold_run(run_dir) if process.rank == 0 else nullcontext():
            shards = shards_of_run(run_dir, Shards(shards_dir, cache=config.cache, cache_bytes=config.cache_bytes))
            train(config, shards, run_dir, process)
            distributed.barrier()
    except ViceError as error:
        # before the group is left, which makes the others fail: they then find the reason
        write_failure(run_dir, error)
        raise
    except Exception as error:
        failure = read_failure(run_dir)
        if failure:
            sys.exit(failure.exit_code)
        if distributed.is_lost_peer(error):
            # the one that died is the launcher's news; this one's traceback would say nothing of it
            sys.exit(1)
        raise
    finally:
        distributed.stop()


def main() -> None:
    """Entry point of `python -m vice.train.launching.worker SHARDS RUN`."""
    shards_dir, run_dir = sys.argv[1], Path(sys.argv[2])
    _end_with_launcher()
    failure = failure_before_restart(run_dir)
    if failure:
        sys.exit(failure.exit_code)
    if num_restarts() and os.environ["RANK"] == "0":
        count = f"restart {num_restarts()} of {os.environ['TORCHELASTIC_MAX_RESTARTS']}"
        print(f"vice-train: a process died; {count}, from {resume_point(run_dir)}", file=sys.stderr, flush=True)
    try:
        work(read_run_config(run_dir), shards_dir, run_dir)
    except ViceError as error:
        # the launcher reads the record and prints the one line
        if not write_failure(run_dir, error):
            print(f"vice-train: error: {error.line()}", file=sys.stderr)
        sys.exit(error.exit_code)


def _end_with_launcher() -> None:
    """Die when the launcher dies, even of `kill -9`: two groups must never write the same run. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # the launcher passes Ctrl-C on; it has the last word, not a traceback of every process
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()

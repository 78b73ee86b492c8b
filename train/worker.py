"""One training process, as our launcher starts it: `python -m vice.train.worker SHARDS RUN`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

from vice.data_specs.errors import ViceError
from vice.train.config import TrainConfig
from vice.train.failure import read_failure, record_failure
from vice.train.run_dir import hold_run, read_run_config


def work(config: TrainConfig, shards_dir: str, run_dir: Path) -> None:
    """Train as one process of the group that the environment describes.

    Args:
        config: the resolved configuration.
        shards_dir: what to train on, on a disk or an object store.
        run_dir: where checkpoints and metrics go.

    Raises:
        ViceError: a known failure; it is also recorded in the run's folder.
    """
    # torch takes seconds to import; a process that is not to start again need not wait for it
    from vice.pipeline.shards import Shards
    from vice.train import distributed
    from vice.train.loop import train

    process = distributed.start()
    try:
        with hold_run(run_dir) if process.rank == 0 else nullcontext():
            shards = Shards(shards_dir, cache=config.cache, cache_bytes=config.cache_bytes)
            train(config, shards, run_dir, process)
            distributed.barrier()
    except ViceError as error:
        record_failure(run_dir, error)
        raise
    finally:
        distributed.stop()


def main() -> None:
    """Entry point of `python -m vice.train.worker SHARDS RUN`."""
    shards_dir, run_dir = sys.argv[1], Path(sys.argv[2])
    _end_with_parent()
    # elastic launchers restart whatever ends with an error: a known failure would only come again
    failure = read_failure(run_dir) if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) else None
    try:
        if failure is not None:
            raise failure
        work(read_run_config(run_dir), shards_dir, run_dir)
    except ViceError as error:
        # the launcher prints the line
        sys.exit(error.exit_code)


def _end_with_parent() -> None:
    """Be killed when the launcher is: nobody would start this process again, or know of it."""
    death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
    ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)


if __name__ == "__main__":
    main()

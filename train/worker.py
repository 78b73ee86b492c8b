"""One training process, as the launcher (ours, torchrun or Slurm) starts it: `python -m vice.train.worker`."""

from __future__ import annotations

import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from vice.data_specs.errors import ViceError
from vice.pipeline.shards import Shards
from vice.train import distributed
from vice.train.config import TrainConfig
from vice.train.loop import train
from vice.train.run_dir import read_run_config


def work(config: TrainConfig, shards_dir: str, run_dir: Path) -> None:
    """Train as one process of the group that the environment describes.

    Args:
        config: the resolved configuration.
        shards_dir: what to train on, on a disk or an object store.
        run_dir: where checkpoints and metrics go.
    """
    process = distributed.start()
    try:
        shards = Shards(shards_dir, cache=config.cache, cache_bytes=config.cache_bytes)
        train(config, shards, run_dir, process)
        distributed.barrier()
    finally:
        distributed.stop()


def main() -> None:
    """Entry point of `python -m vice.train.worker SHARDS RUN`."""
    handler = get_error_handler()
    handler.initialize()
    try:
        shards_dir, run_dir = sys.argv[1], Path(sys.argv[2])
        work(read_run_config(run_dir), shards_dir, run_dir)
    except ViceError as error:
        # the launcher reads this record and prints the one line
        handler.record_exception(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

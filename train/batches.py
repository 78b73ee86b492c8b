"""A run's batches: those that it trains on, and view 1's regions of steps to come, for offline assignment."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vice.pipeline.loader.batch import Batch, BatchFormat
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.region_vectors import RegionVectors
from vice.pipeline.shards import Shards
from vice.train.assignment.method import RegionsOfStep
from vice.train.config import TrainConfig
from vice.train.distributed import Process, loader_threads
from vice.train.network.model import RegionModel, map_size
from vice.train.network.pooling import region_weights


def make_loader(config: TrainConfig, shards: Shards, process: Process) -> ViewLoader:
    """The run's batches from its first step on, as this process gets them."""
    bf16 = config.precision == "bf16"
    return ViewLoader(
        shards,
        config.views,
        global_batch=config.global_batch,
        seed=config.seed,
        window=config.shuffle_window,
        rank=process.rank,
        world_size=process.world_size,
        device=process.device,
        reader=config.reader,
        num_threads=loader_threads(),
        batch_format=BatchFormat(torch.bfloat16 if bf16 else torch.float32, channels_last=True),
        teacher=None if config.teacher is None else RegionVectors(config.teacher),
    )


@torch.no_grad()
def first_views(
    config: TrainConfig, shards: Shards, process: Process, model: RegionModel, num_steps: int, first_step: int
) -> Iterator[RegionsOfStep]:
    """Regions of view 1 as the steps of an epoch will show them, embedded by the network as it is now.

    Args:
        config: the resolved configuration.
        shards: what is trained on.
        process: this process among all.
        model: set to evaluation mode meanwhile.
        num_steps: of the whole run.
        first_step: where the epoch begins.
    """
    loader = make_loader(config, shards, process)
    loader.step = first_step
    steps_per_epoch = -(-len(shards) // config.global_batch)
    model.eval()
    try:
        for step in range(first_step, min(first_step + steps_per_epoch, num_steps)):
            yield _regions_of(config, process, model, step, next(loader))
    finally:
        model.train()


def _regions_of(config: TrainConfig, process: Process, model: RegionModel, step: int, batch: Batch) -> RegionsOfStep:
    most = batch.region_ids.shape[1]
    weights = region_weights(batch.regions[:1], most, map_size(*batch.regions.shape[2:]))
    present = torch.arange(most, device=batch.num_regions.device) < batch.num_regions[:, None]
    picture, region = present.nonzero(as_tuple=True)
    with torch.autocast(process.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        embeddings, _ = model(batch.images[:1], weights, most, picture * most + region)
    return RegionsOfStep(embeddings[0], positions_of(config, process, step, picture))


def positions_of(config: TrainConfig, process: Process, step: int, pictures: Tensor) -> Tensor:
    """Positions, in the order of all steps, of a step's pictures, given by their numbers in this process's batch."""
    return step * config.global_batch + process.rank + pictures * process.world_size

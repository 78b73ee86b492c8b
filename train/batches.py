"""A run's batches: those that it trains on, and view 1's regions of steps to come, for offline assignment."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vice.pipeline.loader.batch import Batch, BatchFormat
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.shards import Shards
from vice.train.assignment.offline_kmeans import RegionsOfStep
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
    with torch.autocast(process.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        embeddings, _ = model(batch.images[:1], weights, most)
    present = torch.arange(most, device=batch.num_regions.device) < batch.num_regions[:, None]
    positions = positions_of(config, process, step, torch.arange(len(present), device=present.device))
    return RegionsOfStep(embeddings[0][present], positions[:, None].expand_as(present)[present])


def positions_of(config: TrainConfig, process: Process, step: int, pictures: Tensor) -> Tensor:
    """Places, in the order of all steps, of this process's pictures of a step, given by their number in its batch."""
    return step * config.global_batch + process.rank + pictures * process.world_size

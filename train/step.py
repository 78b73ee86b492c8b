"""One training step: forward, assignment, loss and gradient of each part of the batch, then one update."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from vice.pipeline.loader.batch import Batch
from vice.train.assignment.method import FirstView
from vice.train.batches import positions_of
from vice.train.distributed import sum_over_processes
from vice.train.loss import swapped_prediction_loss
from vice.train.network.model import map_size
from vice.train.network.pooling import region_weights, usable_regions
from vice.train.state import TrainState


class Outcome(NamedTuple):
    """What a step found out, of this process; on the device."""

    loss: Float[Tensor, ""]
    """Eq. 3's, such that the mean over processes is that of all pictures."""
    assigned: Float[Tensor, "b k"]
    """Assignments of the usable regions in view 1."""
    embeddings: Float[Tensor, "b d"]
    """Their embeddings."""
    usable: Bool[Tensor, "n r"]
    """Regions that count."""


def compute_gradient(state: TrainState, batch: Batch) -> Outcome:
    """Leave the batch's gradient in the parameters; nothing else changes but the assignment's own record of the step.

    With `micro_batches` the pictures are taken in so many parts, whose activations are not in memory at the same time.
    """
    config = state.config
    state.assignment.begin_step(state.step)
    most = batch.region_ids.shape[1]
    drop_masked = config.assignment.masked_regions == "drop"
    usable = usable_regions(batch.regions, batch.num_regions, batch.masked, most=most, drop_masked=drop_masked)
    num_pictures = sum_over_processes(usable.any(1).sum().float())
    state.optimiser.zero_grad(set_to_none=True)
    size = -(-len(usable) // config.micro_batches)
    parts = [slice(first, min(first + size, len(usable))) for first in range(0, len(usable), size)]
    found = []
    for number, pictures in enumerate(parts):
        with _without_exchange(state.network) if number + 1 < len(parts) else nullcontext():
            found.append(_part_gradient(state, batch, pictures, usable[pictures], num_pictures))
    state.assignment.end_step()
    losses, assigned, embeddings = zip(*found, strict=True)
    return Outcome(torch.stack(losses).sum(), torch.cat(assigned), torch.cat(embeddings), usable)


def update(state: TrainState, rate: float) -> None:
    """Move the parameters by their gradient; the concepts stay while they are frozen, and of unit length.

    Args:
        state: with gradients.
        rate: the step's learning rate.
    """
    frozen = state.step < state.config.assignment.freeze_concepts_steps or not state.assignment.learns_concepts
    if frozen:
        state.model.concepts.grad = None
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.step()
    if not frozen:
        state.model.normalise_concepts()


def _part_gradient(
    state: TrainState, batch: Batch, pictures: slice, usable: Bool[Tensor, "n r"], num_pictures: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Add the gradient of some pictures; returns their share of the loss, assignments, and view 1's embeddings."""
    config, most, regions = state.config, usable.shape[1], batch.regions[:, pictures]
    # before the network: counting its entries waits for the device, which then has nothing else to do yet
    weights = region_weights(regions, most, map_size(*regions.shape[2:]))
    with torch.autocast(state.process.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        embeddings, scores = state.network(batch.images[:, pictures], weights, most)
    numbers = torch.arange(pictures.start, pictures.stop, device=usable.device)
    positions = positions_of(config, state.process, state.step, numbers)
    view = FirstView(embeddings[0].detach(), scores[0].detach(), usable, positions)
    assigned = state.assignment.assign(view)
    loss = swapped_prediction_loss(
        scores, assigned, usable, temperature=config.assignment.temperature, num_pictures=num_pictures
    )
    # DistributedDataParallel takes the mean of the processes' gradients, Eq. 3 the sum of their shares
    loss = loss * state.process.world_size
    loss.backward()
    return loss.detach(), assigned, view.embeddings[usable]


def _without_exchange(network: torch.nn.Module):
    """While only a part's gradient is added up, processes need not exchange it."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()

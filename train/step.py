"""One training step: forward, assignment, loss and gradient of each part of the batch, then one update."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from vice.pipeline.loader.batch import Batch
from vice.train.assignment.method import Views
from vice.train.batches import positions_of
from vice.train.distributed import sum_over_processes
from vice.train.losses.term import RegionBatch
from vice.train.network.model import map_size
from vice.train.network.pooling import RegionWeights, region_weights, usable_regions
from vice.train.optimiser import set_rate
from vice.train.state import TrainState


class Outcome(NamedTuple):
    """What a step found out, of this process; on the device, without gradient."""

    loss: Float[Tensor, ""]
    """The weighted sum of the terms, scaled so that averaging over processes gives the mean over all pictures."""
    terms: dict[str, Float[Tensor, ""]]
    """Every term without its weight, scaled in the same way."""
    concepts: Int64[Tensor, " b"]
    """Concept that each usable region is assigned to in view 1; of the prediction where nothing is assigned."""
    predicted: Int64[Tensor, " b"]
    """Concept that the network itself predicts for it in view 1: the largest of its scores."""
    embeddings: Float[Tensor, "b d"]
    """Their embeddings in view 1."""
    usable: Bool[Tensor, "n r"]
    """Regions in the loss, b in all."""


def compute_gradient(state: TrainState, batch: Batch) -> Outcome:
    """Leave the batch's gradient in the parameters; nothing else changes but the assignment's own record of the step.

    With `micro_batches` the pictures are taken in that many parts; only one part's activations are in memory.
    """
    config = state.config
    if config.assigns:
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
    if config.assigns:
        state.assignment.end_step()
    return _joined(found, usable)


def update(state: TrainState, rate: float) -> None:
    """Move the parameters by their gradient; the concepts stay while they are frozen, and of unit length.

    Args:
        state: with gradients.
        rate: the step's learning rate.
    """
    config = state.config
    frozen = state.step < config.assignment.freeze_concepts_steps or not state.assignment.learns_concepts
    if frozen:
        state.model.concepts.grad = None
    set_rate(state.optimiser, rate, freeze_encoder=state.step < config.optimiser.freeze_encoder_steps)
    state.optimiser.step()
    if not frozen:
        state.model.normalise_concepts()
    if state.average is not None:
        state.average.update(state.model)


class _Rows(NamedTuple):
    """The usable regions of some pictures, as rows."""

    picture: Int64[Tensor, " b"]
    """Index in this process's part of the batch."""
    region: Int64[Tensor, " b"]
    flat: Int64[Tensor, " b"]
    """Picture × r + region, within the pictures of the part."""
    share: Float[Tensor, " b"]
    """Weight in the loss: mean over regions, then over all pictures of the step (Eq. 3)."""


class _Inputs(NamedTuple):
    """What the network is called with."""

    images: Float[Tensor, "m n 3 h w"]
    weights: RegionWeights
    num_regions: int
    rows: Int64[Tensor, " b"]


def _rows(usable: Bool[Tensor, "n r"], first: int, num_pictures: Tensor) -> _Rows:
    picture, region = usable.nonzero(as_tuple=True)
    share = 1 / (usable.sum(1).clamp_min(1)[picture] * num_pictures.clamp_min(1))
    return _Rows(picture + first, region, picture * usable.shape[1] + region, share)


def _part_gradient(
    state: TrainState, batch: Batch, pictures: slice, usable: Bool[Tensor, "n r"], num_pictures: Tensor
) -> Outcome:
    """Add the gradient of some pictures."""
    config, most, regions = state.config, usable.shape[1], batch.regions[:, pictures]
    # before the network: counting entries waits for the device, which then has nothing else to do yet
    rows = _rows(usable, pictures.start, num_pictures)
    weights = region_weights(regions, most, map_size(*regions.shape[2:]))
    inputs = _Inputs(batch.images[:, pictures], weights, most, rows.flat)
    with _autocast(state):
        embeddings, scores = state.network(*inputs)
    teacher = None
    if state.to_targets is not None:
        teacher = state.to_targets.apply(batch.teacher[pictures].flatten(0, 1).index_select(0, rows.flat))
    assigned = None
    if config.assigns:
        views = _source(state, inputs, embeddings.detach(), scores.detach(), teacher)
        positions = positions_of(config, state.process, state.step, rows.picture)
        assigned = state.assignment.assign(Views(*views, positions, rows.region))
    for_all = config.assignment.source == "teacher"
    batch_of_regions = RegionBatch(embeddings, scores, rows.share, assigned, for_all, teacher)
    terms = {name: term(batch_of_regions) for name, term in state.losses.items()}
    # DistributedDataParallel takes the mean of the processes' gradients, Eq. 3 the sum of their shares
    scaled = {name: value * state.process.world_size for name, value in terms.items()}
    loss = sum(state.losses[name].settings.weight * value for name, value in scaled.items())
    # every parameter must take part, or processes wait for each other: terms need not use the scores
    (loss + 0 * scores.sum()).backward()
    predicted = scores[0].detach().argmax(1)
    concepts = predicted if assigned is None else assigned[0].argmax(1)
    detached = {name: value.detach() for name, value in scaled.items()}
    return Outcome(loss.detach(), detached, concepts, predicted, embeddings[0].detach(), usable)


def _source(
    state: TrainState, inputs: _Inputs, embeddings: Tensor, scores: Tensor, teacher: Float[Tensor, "b d"] | None
) -> tuple[Float[Tensor, "m b d"], Float[Tensor, "m b k"], Float[Tensor, "k d"]]:
    """Embeddings, scores and concepts that the assignments are made from, of as many views as are assigned."""
    count = state.config.assigned_views
    if state.config.assignment.source == "teacher":
        concepts = state.start.concepts.to(teacher.device)
        return teacher[None], (teacher @ concepts.T)[None], concepts
    if state.config.assignment.source == "ema":
        with torch.no_grad(), _autocast(state):
            average = state.average.model
            weights = inputs.weights if count == len(inputs.images) else _first_view(inputs)
            return *average(inputs.images[:count], weights, inputs.num_regions, inputs.rows), average.concepts
    return embeddings[:count], scores[:count], state.model.concepts.detach()


def _first_view(inputs: _Inputs) -> RegionWeights:
    """The part of the weights that belongs to view 1: rows and their entries are in the order of views."""
    starts, cells, values = inputs.weights
    rows = inputs.images.shape[1] * inputs.num_regions
    entries = int(starts[rows]) if rows < len(starts) else len(cells)
    return RegionWeights(starts[:rows], cells[:entries], values[:entries])


def _joined(parts: list[Outcome], usable: Bool[Tensor, "n r"]) -> Outcome:
    """The outcome of a whole step from those of its parts."""
    terms = {name: torch.stack([part.terms[name] for part in parts]).sum() for name in parts[0].terms}
    loss = torch.stack([part.loss for part in parts]).sum()
    rows = (torch.cat([getattr(part, name) for part in parts]) for name in ("concepts", "predicted", "embeddings"))
    return Outcome(loss, terms, *rows, usable)


def _autocast(state: TrainState) -> torch.autocast:
    return torch.autocast(state.process.device.type, torch.bfloat16, enabled=state.config.precision == "bf16")


def _without_exchange(network: torch.nn.Module):
    """While only a part's gradient is added up, processes need not exchange it."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()

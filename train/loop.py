"""The training loop: batches to steps to checkpoints. It owns step, queue and schedule; the loss is a pure function."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from vice.data_specs.errors import WorkError
from vice.pipeline.loader.batch import Batch
from vice.pipeline.shards import Shards
from vice.train.assignment import sinkhorn
from vice.train.config import TrainConfig
from vice.train.distributed import Process
from vice.train.loss import assign_and_compare
from vice.train.optimiser import learning_rate
from vice.train.pooling import region_weights, usable_regions
from vice.train.run_log import Meter, RunLog
from vice.train.state import TrainState, new_state, restore_state, save_state
from vice.train.weights import initialise


def train(config: TrainConfig, shards: Shards, run_dir: Path, process: Process) -> TrainState:
    """Train until the last step, from the run's last checkpoint where it has one.

    Args:
        config: the resolved configuration.
        shards: what to train on.
        run_dir: where checkpoints and metrics go.
        process: this process among all.

    Raises:
        InputError: the run or its checkpoint is of another configuration or other shards.
        WorkError: the gradient is not finite, or a sample cannot be read.
    """
    # -- state ---------------------------------------------------------------------------------------------------
    state = new_state(config, shards, process)
    if not restore_state(state, run_dir):
        initialise(state.model.dense.encoder, config.model)
    meter = Meter(config.assignment.num_concepts, process.device)
    views_per_step = config.global_batch * config.views.num_views
    with ExitStack() as stack:
        log = stack.enter_context(RunLog(run_dir, state.num_steps, state.step)) if process.rank == 0 else None
        # -- steps -----------------------------------------------------------------------------------------------
        while state.step < state.num_steps:
            asked = time.perf_counter()
            batch = next(state.loader)
            wait = time.perf_counter() - asked
            rate = learning_rate(state.step, state.num_steps, peak=config.peak_learning_rate, config=config.optimiser)
            loss, assigned, usable = train_step(state, batch, rate)
            state.step += 1
            state.views_seen += views_per_step
            # -- records -----------------------------------------------------------------------------------------
            meter.add(loss, assigned, usable.sum(1), wait, views_per_step)
            if log:
                log.advance()
            if state.step % config.log_every == 0 or state.step == state.num_steps:
                line = meter.line()
                if log:
                    log.write(state.step, {**line, "learning_rate": rate, "views_seen": state.views_seen})
            if state.step % config.checkpoint_every == 0 or state.step == state.num_steps:
                save_state(state, run_dir)
    return state


def train_step(state: TrainState, batch: Batch, rate: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One step: forward, assignment, loss, backward, update, queue.

    Returns:
        The loss, the assignments [b, k] of usable regions, and which regions were usable [n, r].
    """
    config = state.config.assignment
    most = batch.region_ids.shape[1]
    usable = usable_regions(
        batch.regions, batch.num_regions, batch.masked, most=most, drop_masked=config.masked_regions == "drop"
    )
    bf16 = state.config.precision == "bf16"
    with torch.autocast(state.process.device.type, torch.bfloat16, enabled=bf16):
        embeddings, scores = state.network(batch.images, partial(region_weights, batch.regions, most))
    queued = state.queue.rows if state.queue.is_full else state.queue.rows[:0]
    loss, assigned, first = assign_and_compare(
        embeddings,
        scores,
        usable,
        queued @ state.model.concepts.detach().T,
        assign=partial(sinkhorn, epsilon=config.epsilon, iterations=config.sinkhorn_iterations),
        temperature=config.temperature,
    )
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    _require_finite_gradient(state, batch)
    if state.step < config.freeze_concepts_steps:
        state.model.concepts.grad = None
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.step()
    state.model.normalise_concepts()
    state.queue.push(first)
    return loss, assigned, usable


def _require_finite_gradient(state: TrainState, batch: Batch) -> None:
    """Stop before the update. Gradients are already averaged, so every process sees what any of them got."""
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    if not torch.isfinite(torch.nn.utils.get_total_norm(gradients)):
        raise WorkError(
            f"the gradient is not finite at step {state.step}",
            where=f"keys {', '.join(batch.keys)}",
            hint="lower optimiser.learning_rate and launch again from the last checkpoint",
        )

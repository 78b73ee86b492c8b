"""The training loop: batches to steps to checkpoints. It owns step and schedule; the loss is a pure function."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.distributed import Process
from vice.train.finite import require_finite
from vice.train.memory import explained_out_of_memory
from vice.train.optimiser import learning_rate
from vice.train.records.meter import Meter
from vice.train.records.run_log import RunLog
from vice.train.records.sketch import sketch_step
from vice.train.state import TrainState, begin, new_state, restore_state, save_state
from vice.train.step import compute_gradient, update


def train(config: TrainConfig, shards: Shards, run_dir: Path, process: Process) -> TrainState:
    """Train until the last step, from the run's last checkpoint where it has one.

    Args:
        config: the resolved configuration.
        shards: what to train on.
        run_dir: where checkpoints and metrics go.
        process: this process among all.

    Raises:
        InputError: the run or its checkpoint is of another configuration or other shards.
        WorkError: a value is not finite, a sample cannot be read, or memory does not suffice.
    """
    # -- state ---------------------------------------------------------------------------------------------------
    state = new_state(config, shards, process)
    if not restore_state(state, run_dir):
        begin(state, shards, report=_say if process.rank == 0 else lambda line: None)
    meter = Meter(config, process.device)
    views_per_step = config.global_batch * config.views.num_views
    with ExitStack() as stack:
        stack.enter_context(explained_out_of_memory(config))
        log = stack.enter_context(RunLog(run_dir, config, state.num_steps, state.step)) if process.rank == 0 else None
        # -- steps -----------------------------------------------------------------------------------------------
        while state.step < state.num_steps:
            asked = time.perf_counter()
            batch = next(state.loader)
            wait = time.perf_counter() - asked
            rate = learning_rate(state.step, state.num_steps, peak=config.peak_learning_rate, config=config.optimiser)
            outcome = compute_gradient(state, batch)
            require_finite(outcome, state.model, batch, step=state.step, run_dir=run_dir, process=process)
            update(state, rate)
            state.step += 1
            state.views_seen += views_per_step
            # -- records -----------------------------------------------------------------------------------------
            meter.add(outcome, batch, wait)
            if log:
                log.advance()
            if _is_due(state, config.log_every):
                line = meter.line()
                if log:
                    log.write(state.step, {**line, "learning_rate": rate, "views_seen": state.views_seen})
            if log and _is_due(state, config.pictures_every):
                log.add_picture(state.step, sketch_step(state, batch, outcome))
            if _is_due(state, config.checkpoint_every):
                save_state(state, run_dir)
    return state


def _say(line: str) -> None:
    print(line, flush=True)


def _is_due(state: TrainState, every: int) -> bool:
    """Whether a periodic action is due at this step (always at the last one); 0 is never."""
    return every > 0 and (state.step % every == 0 or state.step == state.num_steps)

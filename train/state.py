"""The state of a run: everything that a step changes, made from a configuration, saved to and restored from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import difference
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.region_vectors import RegionVectors
from vice.pipeline.shards import Shards
from vice.train.assignment.method import METHODS, Method, MethodContext
from vice.train.batches import first_views, make_loader
from vice.train.config import TrainConfig
from vice.train.distributed import Process, broadcast_from_first
from vice.train.losses.term import LOSSES, LossTerm
from vice.train.moving_average import MovingAverage
from vice.train.network.batch_norm import synchronise_batch_norms
from vice.train.network.model import RegionModel, build_model
from vice.train.network.weights import initialise
from vice.train.optimiser import build_optimiser
from vice.train.records.checkpoint import CHECKPOINT_FOLDER, LAST, read_checkpoint, save_checkpoint
from vice.train.start import Standardised, Start, fit_start
from vice.train.start_pictures import start_pictures


@dataclass
class TrainState:
    """What the loop works on."""

    config: TrainConfig
    process: Process
    model: RegionModel
    """The weights."""
    network: nn.Module
    """The model as it is called: wrapped for gradients over processes where there are several."""
    optimiser: torch.optim.Optimizer
    assignment: Method
    losses: dict[str, LossTerm]
    """Terms of a weight above 0, by name."""
    loader: ViewLoader
    num_steps: int
    average: MovingAverage | None = None
    """The network's moving average, where one is kept."""
    start: Start | None = None
    """What was fitted at step 0, for runs that start from their encoder."""
    step: int = 0
    """Steps done."""
    views_seen: int = 0
    """Over all processes."""
    to_targets: Standardised | None = field(default=None, init=False)
    """From the teacher's vectors to the space of the embeddings, on the device."""

    @property
    def parts(self) -> dict[str, Any]:
        """What saves and loads itself, by its key in a checkpoint."""
        parts = {
            "model": self.model,
            "optimiser": self.optimiser,
            "assignment": self.assignment,
            "loader": self.loader,
            "average": self.average,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def use_start(self, start: Start) -> None:
        """Remember what was fitted at step 0, and turn the teacher's vectors into targets by it."""
        self.start = start
        if start.teacher is not None:
            self.to_targets = Standardised(*(part.to(self.process.device) for part in start.teacher))


def new_state(config: TrainConfig, shards: Shards, process: Process) -> TrainState:
    """A run before its first step, with random weights; `begin` or `restore_state` comes next."""
    config.check_terms()
    model = build_model(config)
    loader = make_loader(config, shards, process)
    if process.device.type == "cuda" and process.world_size > 1:
        model = synchronise_batch_norms(model)
    model = model.to(process.device)
    average = MovingAverage(model, config.ema_decay) if config.ema_decay else None
    if config.compile:
        model.dense.raw = torch.compile(model.dense.raw)
    num_steps = loader.order.steps(config.epochs)
    context = MethodContext(
        config=config,
        concepts=model.concepts,
        process=process,
        steps_per_epoch=-(-len(shards) // config.global_batch),
        regions_of=partial(first_views, config, shards, process, model, num_steps),
    )
    method = config.assignment.method
    return TrainState(
        config=config,
        process=process,
        model=model,
        network=_wrapped(model) if process.world_size > 1 else model,
        optimiser=build_optimiser(model, config),
        assignment=METHODS[method](getattr(config.assignment, method), context),
        losses={name: LOSSES[name](of) for name, of in config.loss_sections.items() if of.weight > 0},
        loader=loader,
        num_steps=num_steps,
        average=average,
    )


def begin(state: TrainState, shards: Shards, *, report: Callable[[str], None] = lambda line: None) -> None:
    """Put a new run's pretrained weights into the network and fit its start, where it has them.

    Args:
        state: of `new_state`.
        shards: what is trained on.
        report: takes a line on what is done, which may take a minute.

    Raises:
        InputError: see `initialise` and `fit_start`.
    """
    config = state.config
    initialise(state.model.dense.encoder, config.model)
    if config.model.start == "encoder":
        report("fitting the start of the run to regions of training pictures")
        state.use_start(broadcast_from_first(lambda: _fitted(state, shards)))
        state.start.put_into(state.model)
    if state.average is not None:
        state.average.reset(state.model)


def _fitted(state: TrainState, shards: Shards) -> Start:
    config = state.config
    teacher = None if config.teacher is None else RegionVectors(config.teacher)
    return fit_start(start_pictures(state.model.dense.encoder, shards, config.views.regions, teacher), config)


def _wrapped(model: RegionModel) -> DistributedDataParallel:
    """The model with gradients averaged over processes; torch has no SyncBatchNorm for the CPU: there each process
    keeps its own statistics.
    """
    new_name = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    return DistributedDataParallel(
        model,
        **{"forward_sync_buffers" if new_name else "broadcast_buffers": False},
    )


def save_state(state: TrainState, run_dir: Path) -> None:
    """Write a checkpoint; all processes call it, the first one writes."""
    content: dict[str, Any] = {
        "step": state.step,
        "num_steps": state.num_steps,
        "views_seen": state.views_seen,
        "config": state.config.model_dump(mode="json"),
        "start": None if state.start is None else state.start.state_dict(),
        **{name: part.state_dict() for name, part in state.parts.items()},
    }
    if state.process.rank == 0:
        save_checkpoint(run_dir, content, keep=state.config.keep_checkpoints)


def restore_state(state: TrainState, run_dir: Path) -> bool:
    """Resume from the run's last checkpoint; returns whether there was one.

    Raises:
        InputError: the checkpoint is of an earlier version, of another configuration or other shards; says which.
    """
    path = run_dir / CHECKPOINT_FOLDER / LAST
    if not path.exists():
        return False
    checkpoint = read_checkpoint(path)
    saved = checkpoint.state
    if checkpoint.is_old:
        hint = "evaluate or export it as it is, finish it with the version that started it, or use another --run-dir"
        raise InputError("the run was started by an earlier version and cannot be resumed", where=path, hint=hint)
    changed = difference(checkpoint.config.identity, state.config.identity)
    if changed:
        hint = "use another --run-dir, or the settings that the run was started with"
        raise InputError("the run has another configuration", where="; ".join(changed), hint=hint)
    # the loader first: it refuses other data before anything is changed
    for name in sorted(state.parts, key=lambda name: name != "loader"):
        state.parts[name].load_state_dict(saved[name])
    if saved["start"] is not None:
        state.use_start(Start.from_state(saved["start"]))
    state.step, state.views_seen = saved["step"], saved["views_seen"]
    return True

"""The state of a run: everything that a step changes, made from a configuration, saved to and restored from a file."""

from __future__ import annotations

from dataclasses import dataclass
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
from vice.pipeline.shards import Shards
from vice.train.assignment.method import Assignment
from vice.train.assignment.offline_kmeans import KMeansAssignment
from vice.train.assignment.swav import SwavAssignment
from vice.train.batches import first_views, make_loader
from vice.train.config import TrainConfig
from vice.train.distributed import Process
from vice.train.network.batch_norm import synchronise_batch_norms
from vice.train.network.model import RegionModel, build_model
from vice.train.optimiser import build_optimiser
from vice.train.records.checkpoint import CHECKPOINT_FOLDER, LAST, read_checkpoint, save_checkpoint


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
    assignment: Assignment
    loader: ViewLoader
    num_steps: int
    step: int = 0
    """Steps done."""
    views_seen: int = 0
    """Over all processes."""


def new_state(config: TrainConfig, shards: Shards, process: Process) -> TrainState:
    """A run at its first step."""
    model = build_model(config)
    loader = make_loader(config, shards, process)
    if process.device.type == "cuda" and process.world_size > 1:
        model = synchronise_batch_norms(model)
    model = model.to(process.device)
    if config.compile:
        model.dense.raw = torch.compile(model.dense.raw)
    network = model
    if process.world_size > 1:
        network = _wrapped(model)
    num_steps = loader.order.steps(config.epochs)
    return TrainState(
        config=config,
        process=process,
        model=model,
        network=network,
        optimiser=build_optimiser(model, config),
        assignment=_build_assignment(config, shards, process, model, num_steps),
        loader=loader,
        num_steps=num_steps,
    )


def _wrapped(model: RegionModel) -> DistributedDataParallel:
    """The model with gradients averaged over processes; torch has no SyncBatchNorm for the CPU: there each process
    keeps its own statistics.
    """
    new_name = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    return DistributedDataParallel(model, **{"forward_sync_buffers" if new_name else "broadcast_buffers": False})


def _build_assignment(
    config: TrainConfig, shards: Shards, process: Process, model: RegionModel, num_steps: int
) -> Assignment:
    if config.assignment.method == "swav":
        return SwavAssignment(config.assignment, model.concepts, process)
    return KMeansAssignment(
        config.assignment,
        model.concepts,
        process,
        seed=config.seed,
        steps_per_epoch=-(-len(shards) // config.global_batch),
        regions_of=partial(first_views, config, shards, process, model, num_steps),
    )


def save_state(state: TrainState, run_dir: Path) -> None:
    """Write a checkpoint; all processes call it, the first one writes."""
    content: dict[str, Any] = {
        "step": state.step,
        "num_steps": state.num_steps,
        "views_seen": state.views_seen,
        "config": state.config.model_dump(mode="json"),
        "model": state.model.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "assignment": state.assignment.state_dict(),
        "loader": state.loader.state_dict(),
    }
    if state.process.rank == 0:
        save_checkpoint(run_dir, content, keep=state.config.keep_checkpoints)


def restore_state(state: TrainState, run_dir: Path) -> bool:
    """Go on from the run's last checkpoint; returns whether there was one.

    Raises:
        InputError: the checkpoint is of another configuration or other shards; names the difference.
    """
    path = run_dir / CHECKPOINT_FOLDER / LAST
    if not path.exists():
        return False
    checkpoint = read_checkpoint(path)
    saved = checkpoint.state
    changed = difference(checkpoint.config.identity, state.config.identity)
    if changed:
        hint = "use another --run-dir, or the run's own settings"
        raise InputError("the run has another configuration", where="; ".join(changed), hint=hint)
    state.loader.load_state_dict(saved["loader"])
    state.model.load_state_dict(saved["model"])
    state.optimiser.load_state_dict(saved["optimiser"])
    state.assignment.load_state_dict(saved["assignment"])
    state.step, state.views_seen = saved["step"], saved["views_seen"]
    return True

"""`vice-train`: train on shards, list the presets."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vice.data_specs.errors import run_command
from vice.train.config import TrainConfig
from vice.train.config_files import load_config, presets
from vice.train.launching.preflight import check
from vice.train.network.weight_source import check_weights, has_begun

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Train dense features on shards of vice-prep."
)


@app.callback()
def options() -> None:
    """Train dense features on shards of vice-prep (--debug before or after any command shows tracebacks)."""


@app.command("launch")
def launch_command(
    config: Annotated[str, typer.Argument(help="A preset (see vice-train presets) or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, as in views.num_views=4.")] = None,
    *,
    shards: Annotated[str, typer.Option(help="Folder written by vice-prep shard, or s3://… or gs://….")],
    run_dir: Annotated[Path, typer.Option(help="The run's folder; a run that has a checkpoint goes on from it.")],
    weights: Annotated[
        str | None,
        typer.Option(help="Encoder's initial weights: packaged, default, a public name or a file; sets model.weights."),
    ] = None,
    nproc: Annotated[
        int | None, typer.Option(min=1, help="Processes on this node (default: one a GPU, or one).")
    ] = None,
    nnodes: Annotated[str, typer.Option(help="Nodes, as N or MIN:MAX.")] = "1",
    endpoint: Annotated[str, typer.Option(help="host:port where several nodes meet.")] = "",
    max_restarts: Annotated[
        int, typer.Option(min=0, help="How often processes that die are started again, from the last checkpoint.")
    ] = 3,
) -> None:
    """Train a preset or a configuration on shards; under torchrun or srun as one of its processes.

    Example: vice-train launch scenes-demo --shards shards/train --run-dir runs/scenes epochs=20
    """
    resolved = load_config(config, [*(overrides or []), *([] if weights is None else [f"model.weights={weights}"])])
    # one node's --nproc says how many there are; outer launchers and GPUs are known with torch alone
    check(resolved, shards, run_dir, num_processes=nproc if nnodes == "1" else None)
    check_weights(resolved, run_dir)
    # torch takes seconds to import; by now the command is known to be right
    with _torch_quiet() if endpoint else nullcontext():
        from vice.train.launching.launch import launch
        from vice.train.network.weights import prepare
        from vice.train.records.checkpoint import CHECKPOINT_FOLDER, LAST, read_checkpoint

    told = None if has_begun(run_dir) else prepare(resolved.model)
    if told and os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
        print(told)
    launch(
        resolved,
        shards,
        run_dir,
        num_processes=nproc,
        nodes=nnodes,
        endpoint=endpoint,
        max_restarts=max_restarts,
    )
    if os.environ.get("RANK", "0") != "0":
        return
    last = run_dir / CHECKPOINT_FOLDER / LAST
    info = read_checkpoint(last).info
    print(f"trained {info.name}: {info.step} of {info.num_steps} steps, {info.views_seen} views -> {last}")
    print(f"next: vice-eval all {last} --train {shards} --val VAL_SHARDS --run-dir {run_dir / 'eval'}")


@app.command("export")
def export_command(
    source: Annotated[Path, typer.Argument(metavar="RUN|CHECKPOINT", help="A run's folder, or a checkpoint.")],
    out: Annotated[Path, typer.Argument(help="New folder: model.safetensors, model.json, model.onnx.")],
) -> None:
    """Write a trained model as safetensors and as ONNX, for use without this package.

    Example: vice-train export runs/scenes exported/scenes
    """
    from vice.train.export import export_run

    for path in export_run(source, out):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


@app.command("presets")
def presets_command() -> None:
    """List the presets with the paper's row that each one is.

    Example: vice-train presets
    """
    table = Table("preset", "what it trains, and the paper's row", box=None, header_style="bold", pad_edge=False)
    for name, config in presets().items():
        table.add_row(name, Text.assemble(_settings(config), "\n", (config.paper, "dim")))
    # a file or a pipe has no width that lines must be broken at
    (Console() if sys.stdout.isatty() else Console(width=200)).print(table)


def _settings(config: TrainConfig) -> str:
    """Network, views and regions, and what is not as in the paper's method."""
    model, views = config.model, config.views
    parts = [f"{model.encoder} {model.decoder}", f"{views.num_views} × {views.size}²", views.regions]
    parts += [] if views.mask_share else ["unmasked"]
    parts += [] if config.assignment.method == "swav" else [config.assignment.method]
    return "  ".join(parts)


@contextmanager
def _torch_quiet() -> Iterator[None]:
    """Import torch such that it writes no page on an address that does not answer; training processes still may."""
    name = "TORCH_CPP_LOG_LEVEL"
    if name in os.environ:
        yield
        return
    os.environ[name] = "FATAL"
    try:
        yield
    finally:
        del os.environ[name]


def main() -> None:
    """Entry point of the console script."""
    run_command(app, "vice-train")

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

from vice.data_specs.command_line import command, run_command
from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.config_files import load_config, presets
from vice.train.launching.defaults import default_preset, split_arguments, with_stored_layer
from vice.train.launching.preflight import check
from vice.train.network.weight_source import check_weights, has_begun
from vice.train.records.run_dir import with_run_precision

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Train dense features on shards of vice-prep."
)


@app.callback()
def options() -> None:
    """Train dense features on shards of vice-prep (--debug before or after any command shows tracebacks)."""


@app.command("launch")
def launch_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE]...",
            help="A preset (see vice-train presets) or a YAML file (default: gpu on a machine with a GPU, else cpu), "
            "and settings to change, as in views.num_views=4.",
        ),
    ] = None,
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
    """Train on shards; under torchrun or srun as one of its processes. A run that has a checkpoint is resumed.

    Example: vice-train launch --shards shards/train --run-dir runs/mine teacher=vectors epochs=20
    """
    config, overrides = split_arguments(arguments or [])
    overrides += [] if weights is None else [f"model.weights={weights}"]
    resolved = _with_defaults(shards, run_dir, overrides) if config is None else load_config(config, overrides)
    resolved = with_run_precision(resolved, run_dir)
    # one node's --nproc says how many there are; outer launchers and GPUs are known with torch alone
    check(resolved, shards, run_dir, num_processes=nproc if nnodes == "1" else None)
    check_weights(resolved, run_dir)
    # torch takes seconds to import; by now the command is known to be right
    with _torch_quiet() if endpoint else nullcontext():
        from vice.train.launching.launch import launch
        from vice.train.network.weights import prepare
        from vice.train.records.checkpoint import CHECKPOINT_FOLDER, LAST, read_checkpoint

    used = None if has_begun(run_dir) else prepare(resolved.model)
    if used and _is_first():
        print(used)
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
    words = ("--train", shards, "--val", "VAL_SHARDS", "--run-dir", run_dir / "eval")
    print(f"next: {command('vice-eval', 'all', last, *words)}")


def _with_defaults(shards: str, run_dir: Path, overrides: list[str]) -> TrainConfig:
    """The preset for this machine with a region layer that the shards have; says what was chosen."""
    preset = default_preset(overrides)
    config, regions = with_stored_layer(preset, overrides, Shards(shards))
    if _is_first():
        print(f"preset {preset}, {regions} (vice-train presets lists the others)")
        if config.teacher is None and not has_begun(run_dir):
            print("no teacher: features gain more with one; see vice-eval embed --help and teacher=VECTORS")
    return config


def _is_first() -> bool:
    """Whether this is the first of the processes that an outer launcher may have started."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


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
    run_command(app, "vice-train", resumable=["launch"])

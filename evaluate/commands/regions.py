"""`regions`: what region layers allow by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vice.evaluate.commands.parameters import ClassSetName, RunDir


def regions(
    shards: Annotated[str, typer.Argument(metavar="SHARDS", help="Pictures with region layers, and labels if any.")],
    run_dir: RunDir,
    layer: Annotated[
        list[str], typer.Option("--layer", help="A stored layer, slic:20; several times.", show_default="all")
    ] = [],  # noqa: B006 - Typer reads the default, nothing changes it
    segmentations: Annotated[
        Path | None, typer.Option(help="Folder of segmentations by hand, NAME_K.png, for boundary measures.")
    ] = None,
    classes: ClassSetName = None,
) -> None:
    """Measure the best that labels of whole regions can be, beside grids of equal base size and of equal count."""
    from vice.evaluate.commands.job import say_next
    from vice.evaluate.record import add, check_record
    from vice.evaluate.regions.job import evaluate_regions
    from vice.evaluate.summary import print_bounds
    from vice.pipeline.shards import Shards

    opened = Shards(shards, class_set=classes)
    check_record(run_dir, None)
    bounds = evaluate_regions(opened, layers=layer, segmentations=segmentations, run_dir=run_dir)
    name = f"{bounds.data.dataset} {bounds.data.split}" + (f" classes-{classes}" if classes else "")
    path = add(run_dir, regions={name: bounds}).path
    print_bounds(bounds)
    print(f"wrote {path}")
    say_next(run_dir)

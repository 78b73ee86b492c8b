"""What a command prints at its end: a compact table of the new results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from vice.data_specs.atlas_entry import Atlas
from vice.data_specs.entries import Evaluation, RegionBounds, Score
from vice.evaluate.comparison import evaluated, verdict
from vice.evaluate.names import CLEAN
from vice.evaluate.report.tables import is_headline

MEASURED = ("boundary_recall", "undersegmentation_error", "achievable_accuracy", "compactness")


def print_scores(entries: Mapping[str, Evaluation]) -> None:
    """Print mIoU and accuracy in per cent (clean, and the mean of what is changed), and which baselines are beaten."""
    conditions = list(next(iter(next(iter(entries.values())).encoders.values())))
    changed = [condition for condition in conditions if condition != CLEAN]
    table = Table("evaluation", "encoder", title="mIoU / accuracy, %", title_justify="left")
    for column in (CLEAN, *([", ".join(changed)] if len(changed) == 1 else ["changed (mean)"] if changed else [])):
        table.add_column(column, justify="right")
    for name, evaluation in entries.items():
        for row, (encoder, by_condition) in enumerate(evaluation.encoders.items()):
            columns = [[by_condition[CLEAN]], [by_condition[condition] for condition in changed]]
            table.add_row(name if row == 0 else "", encoder, *(_shares(scores) for scores in columns if scores))
        table.add_section()
    Console(width=None if Console().is_terminal else 110).print(table)
    for name, evaluation in entries.items():
        told = verdict(evaluation) if is_headline(name, evaluation) else ""
        if told:
            print(f"{name}, {evaluated(evaluation)}: {told[0].lower()}{told[1:]}")


def _shares(scores: list[Score]) -> str:
    miou, accuracy = (statistics.mean(getattr(score, share) for score in scores) for share in ("miou", "accuracy"))
    return f"{100 * miou:.1f} / {100 * accuracy:.1f}"


def print_bounds(bounds: RegionBounds) -> None:
    """Print what every layer allows, and the thin classes: those thinner than a region of the first layer is wide."""
    table = Table("layer", title="upper bounds and measures, %", title_justify="left")
    measured = [name for name in MEASURED if any(getattr(layer, name) for layer in bounds.layers)]
    columns = ["accuracy", "mIoU", "best mIoU"] if any(layer.majority for layer in bounds.layers) else []
    for column in ("regions", *columns, *(name.replace("_", " ") for name in measured)):
        table.add_column(column, justify="right")
    for layer in bounds.layers:
        shares = [layer.majority.accuracy, layer.majority.miou, layer.best.miou] if layer.majority else []
        told = [f"{100 * share:.1f}" for share in shares]
        told += [f"{100 * getattr(layer, name).mean:.1f}" for name in measured]
        table.add_row(layer.layer, f"{layer.regions.mean:.0f}", *told)
    Console(width=None if Console().is_terminal else 120).print(table)
    thinnest = sorted(bounds.thickness.items(), key=lambda one: one[1])[:5]
    if thinnest:
        print("thinnest classes: " + ", ".join(f"{name} ({pixels:.1f} px)" for name, pixels in thinnest))


def print_concepts(atlas: Atlas) -> None:
    """Print how many concepts are in use, and the ten most used with their classes."""
    used = sorted((concept for concept in atlas.concepts if concept.usage > 0), key=lambda one: -one.usage)
    table = Table("concept", title=f"{len(used)} of {len(atlas.concepts)} concepts in use", title_justify="left")
    for column in ("area, %", "regions", "classes, %"):
        table.add_column(column, justify="left" if column.startswith("classes") else "right")
    for concept in used[:10]:
        classes = ", ".join(f"{name} {100 * share:.0f}" for name, share in list(concept.classes.items())[:3])
        table.add_row(str(concept.number), f"{100 * concept.usage:.1f}", f"{concept.num_regions:,}", classes)
    Console(width=None if Console().is_terminal else 100).print(table)

"""What a command prints at its end: a compact table of the new results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from vice.data_specs.results import Evaluation, Score
from vice.evaluate.names import CLEAN


def print_scores(entries: Mapping[str, Evaluation]) -> None:
    """Print mIoU and accuracy in per cent, a row per evaluation and encoder: clean, and the mean of what is changed."""
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


def _shares(scores: list[Score]) -> str:
    miou, accuracy = (statistics.mean(getattr(score, share) for score in scores) for share in ("miou", "accuracy"))
    return f"{100 * miou:.1f} / {100 * accuracy:.1f}"

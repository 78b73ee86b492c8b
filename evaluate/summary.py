"""What a command prints at its end: a compact table of the new results."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from vice.data_specs.results import Evaluation


def print_scores(entries: Mapping[str, Evaluation]) -> None:
    """Print mIoU and accuracy in per cent, a row per evaluation and encoder, a pair of columns per condition."""
    conditions = list(next(iter(next(iter(entries.values())).encoders.values())))
    table = Table("evaluation", "encoder", title="mIoU / accuracy, %", title_justify="left")
    for condition in conditions:
        table.add_column(condition, justify="right")
    for name, evaluation in entries.items():
        for row, (encoder, by_condition) in enumerate(evaluation.encoders.items()):
            shares = [f"{100 * score.miou:.1f} / {100 * score.accuracy:.1f}" for score in by_condition.values()]
            table.add_row(name if row == 0 else "", encoder, *shares)
        table.add_section()
    Console(width=None if Console().is_terminal else 110).print(table)

"""The paper's rows beside ours, each with what keeps the two from being compared."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

from vice.data_specs.entries import Evaluation
from vice.evaluate.comparison import evaluated
from vice.evaluate.names import CLEAN
from vice.evaluate.report.runs import Group

NUM_VAL = {"coco_stuff": 2175, "cityscapes": 500}
"""Pictures in the validation sets of the paper."""
CLASSES = 27


class PaperRow(NamedTuple):
    """One line of the table: the paper's, or one of ours."""

    method: str
    evaluation: str
    miou: float
    """In per cent, as accuracy."""
    accuracy: float
    source: str
    """Table of the paper; empty for ours."""
    reservation: str
    """Why it is not to be compared with the others of this page; empty where nothing speaks against it."""


@cache
def published() -> list[dict[str, Any]]:
    """Every row of `paper_rows.yaml`."""
    text = (resources.files("vice.evaluate.report") / "paper_rows.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def paper_rows(group: Group) -> list[PaperRow]:
    """Our rows on one group's data, then the paper's of the same evaluations, the same dataset's first."""
    ours = [
        _own(run.name, name, entry)
        for run, entries in zip(group.runs, group.evaluations, strict=True)
        for name, entry in entries.items()
        if _protocol(name, entry)
    ]
    asked = {row.evaluation for row in ours}
    theirs = [row for row in published() if row["evaluation"] in asked]
    theirs.sort(key=lambda row: row["dataset"] != group.ref.dataset)
    return ours + [
        PaperRow(
            row["method"],
            row["evaluation"],
            row["miou"],
            row["accuracy"],
            f"{row['source']}, {row['dataset']}",
            reservation(row, group),
        )
        for row in theirs
    ]


def _own(run: str, name: str, entry: Evaluation) -> PaperRow:
    encoder = evaluated(entry)
    score = entry.encoders[encoder][CLEAN]
    method = f"{run} ({encoder})"
    return PaperRow(method, _protocol(name, entry), 100 * score.miou, 100 * score.accuracy, "", "")


def _protocol(name: str, entry: Evaluation) -> str:
    """The evaluation as the paper's rows call it; empty for those it has none of."""
    plain = name.split()
    if entry.kind == "linear" and plain[-1] in ("linear", "linear-sgd"):
        return "linear"
    # the paper does not say which split its matching was fitted on; ours fitted on train labels is the stricter
    if entry.kind == "cluster" and plain[-1] == "train-fitted":
        return f"cluster-{entry.settings['kmeans']['num_clusters']} {plain[-2]}"
    return ""


def reservation(row: Mapping[str, Any], group: Group) -> str:
    """What keeps a published row from being compared with those of a group; empty where nothing does."""
    dataset = row["dataset"]
    if group.ref.dataset != dataset:
        return "another dataset"
    if len(group.classes) != CLASSES:
        return f"{CLASSES} classes, ours {len(group.classes)}"
    if group.ref.num_pictures != NUM_VAL[dataset]:
        return f"{NUM_VAL[dataset]:,} val pictures, ours {group.ref.num_pictures:,}"
    if row["evaluation"] == "linear":
        return ""
    if "matched_on" in row:
        return f"clusters matched on {row['matched_on']} labels, ours on train labels"
    return "k-means settings and the split that clusters were matched on are not published"

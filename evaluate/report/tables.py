"""Numbers for the report's tables, worked out from records alone: scores, conditions, clusters, classes, confusions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vice.data_specs.entries import ComparedEncoder, Evaluation, Score
from vice.evaluate.comparison import evaluated
from vice.evaluate.names import CLEAN
from vice.evaluate.report.joining import joined
from vice.evaluate.report.runs import Group

HEADLINE_MATCHING = "greedy train-fitted"
"""The one of the four mappings of clusters that stands among the main scores: it has seen no val label, suits any K."""
CHANGED = "changed"
"""Column for the mean over all conditions but the clean one, where there are several."""
MATRIX_CLASSES = 40
"""With more classes a confusion matrix cannot be read: the most confused pairs are listed instead."""
PAIRS = 20


class Cell(NamedTuple):
    """One encoder's shares in one column."""

    miou: float
    accuracy: float
    mean_accuracy: float
    spread: float | None
    """Standard deviation of the mIoU over seeds; None for one seed."""
    best: bool
    """Whether no other encoder of the same evaluation has a higher mIoU in this column."""


class Row(NamedTuple):
    """One encoder in one evaluation; a cell per run and column, None where a run lacks it."""

    evaluation: str
    differs_in: str
    """Settings that evaluations of this name differ in; empty where all are equal."""
    encoder: str
    first: bool
    """Whether it is the evaluation's first row."""
    cells: list[list[Cell | None]]


class ClassRow(NamedTuple):
    """One class in the table of classes."""

    name: str
    colour: str
    share: float
    """Of the labelled pixels."""
    iou: list[float | None]
    """A column per encoder, clean."""


class Matrix(NamedTuple):
    """A confusion matrix in shares of each labelled class, or its most confused pairs."""

    encoder: str
    classes: list[str]
    shares: list[list[float]]
    pairs: list[tuple[str, str, float]]
    """(labelled, predicted, share), most pixels first."""


def is_headline(name: str, entry: Evaluation) -> bool:
    """Whether an evaluation stands in the main table; the others are told in tables of their own."""
    if entry.kind == "cluster":
        return name.endswith(HEADLINE_MATCHING)
    return not any(part in name for part in (" lr-", "linear-without-"))


def columns(group: Group) -> list[str]:
    """Columns of the main table: each condition, or clean and the mean of the others where these are several."""
    conditions = group.conditions
    return conditions if len(conditions) <= 2 else [CLEAN, CHANGED]


def score_rows(group: Group, *, headline: bool = True) -> list[Row]:
    """A row per evaluation and encoder: the main ones, or those that have no other table.

    Runs stand side by side where they were evaluated with the same settings on the same data; others get a row each.
    """
    rows = []
    for name, differs_in, entries in joined(group):
        entry = next(filter(None, entries))
        if is_headline(name, entry) != headline or not (headline or entry.kind != "cluster"):
            continue
        by_run = [entry.encoders if entry else {} for entry in entries]
        encoders = list(dict.fromkeys(encoder for found in by_run for encoder in found))
        for number, encoder in enumerate(encoders):
            cells = [[_cell(found, encoder, column) for column in columns(group)] for found in by_run]
            rows.append(Row(name, differs_in, encoder, number == 0, cells))
    return rows


def _cell(found: Mapping[str, Mapping[str, Score]], encoder: str, column: str) -> Cell | None:
    shares = {name: _shares(by_condition, column) for name, by_condition in found.items()}
    own = shares.get(encoder)
    if own is None:
        return None
    top = max(other[0] for other in shares.values() if other is not None)
    return Cell(*own, best=own[0] == top)


def _shares(by_condition: Mapping[str, Score], column: str) -> tuple[float, float, float, float | None] | None:
    scores = [score for name, score in by_condition.items() if name == column or (column == CHANGED and name != CLEAN)]
    if not scores:
        return None
    repeats = [[repeat.miou for repeat in score.repeats] for score in scores]
    by_seed = [statistics.mean(of_seed) for of_seed in zip(*repeats, strict=False)]
    return (
        statistics.mean(score.miou for score in scores),
        statistics.mean(score.accuracy for score in scores),
        statistics.mean(score.mean_accuracy for score in scores),
        statistics.stdev(by_seed) if len(by_seed) > 1 else None,
    )


class ConditionRow(NamedTuple):
    """One encoder's mIoU by condition."""

    evaluation: str
    encoder: str
    first: bool
    miou: list[float | None]


def condition_rows(group: Group, number: int) -> list[ConditionRow]:
    """A row per main evaluation and encoder of one run, a column per condition."""
    rows = []
    for name, entry in group.evaluations[number].items():
        if is_headline(name, entry):
            for place, (encoder, by) in enumerate(entry.encoders.items()):
                shares = [by[condition].miou if condition in by else None for condition in group.conditions]
                rows.append(ConditionRow(name, encoder, place == 0, shares))
    return rows


class ClusterRow(NamedTuple):
    """One encoder's clusters under every mapping, on clean pictures."""

    num_clusters: str
    encoder: str
    first: bool
    scores: list[Score | None]
    """In the order of `MAPPINGS`."""


MAPPINGS = ("greedy train-fitted", "greedy val-fitted", "hungarian train-fitted", "hungarian val-fitted")


def cluster_rows(group: Group, number: int) -> list[ClusterRow]:
    """A row per K and encoder of one run, a column per matching rule and split it was fitted on."""
    entries = {name: entry for name, entry in group.evaluations[number].items() if entry.kind == "cluster"}
    names = dict.fromkeys(_clusters(name) for name in entries)
    rows = []
    for name in names:
        of_name = {mapping: entries.get(f"{name} {mapping}") for mapping in MAPPINGS}
        encoders = list(dict.fromkeys(e for entry in of_name.values() if entry for e in entry.encoders))
        for place, encoder in enumerate(encoders):
            scores = [entry.encoders[encoder][CLEAN] if entry else None for entry in of_name.values()]
            rows.append(ClusterRow(name, encoder, place == 0, scores))
    return rows


def _clusters(name: str) -> str:
    mapping = next((mapping for mapping in MAPPINGS if name.endswith(mapping)), "")
    return name.removesuffix(mapping).strip()


def class_rows(entry: Evaluation) -> list[ClassRow]:
    """A row per class, most frequent first, with its colour in the pictures and a column per encoder."""
    scores = [by_condition[CLEAN] for by_condition in entry.encoders.values()]
    labelled = [sum(row) for row in scores[0].confusion]
    rows = [
        ClassRow(
            name, entry.colours.get(name, "transparent"), count / max(sum(labelled), 1), [s.iou[name] for s in scores]
        )
        for name, count in zip(scores[0].iou, labelled, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.share)


def matrix(entry: Evaluation) -> Matrix:
    """What the evaluated encoder takes for what, on clean pictures; classes without labels are left out."""
    encoder = evaluated(entry)
    score = entry.encoders[encoder][CLEAN]
    counts = np.array(score.confusion)
    labelled = counts.sum(axis=1)
    there = np.flatnonzero(labelled)
    names = list(score.iou)
    shares = counts / np.maximum(labelled, 1)[:, None]
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [(int(place) // len(counts), int(place) % len(counts)) for place in order]
    return Matrix(
        encoder,
        [names[number] for number in there],
        shares[np.ix_(there, there)].tolist() if len(there) <= MATRIX_CLASSES else [],
        [(names[row], names[column], float(shares[row, column])) for row, column in pairs if wrong[row, column]],
    )


def detailed(entries: Mapping[str, Evaluation]) -> list[tuple[str, Evaluation]]:
    """The evaluations whose classes are shown one by one: linear and neighbours, as far as they are main ones."""
    return [(name, entry) for name, entry in entries.items() if entry.kind != "cluster" and is_headline(name, entry)]


def encoders_of(entries: Sequence[Evaluation]) -> list[str]:
    """Names of all encoders, in order."""
    return list(dict.fromkeys(encoder for entry in entries for encoder in entry.encoders))


def compared(group: Group) -> dict[str, ComparedEncoder]:
    """What the encoders of a group's evaluations are, by name; those of the first run that has them."""
    found: dict[str, ComparedEncoder] = {}
    for entries in group.evaluations:
        for entry in entries.values():
            found = {**entry.compared, **found}
    return found


def has_repeats(group: Group) -> bool:
    """Whether any evaluation was repeated with several seeds."""
    every = (by for entries in group.evaluations for entry in entries.values() for by in entry.encoders.values())
    return any(score.repeats for by in every for score in by.values())

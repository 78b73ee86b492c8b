"""What the report says, worked out from records alone: sentences, tables, pictures, settings. No HTML here."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vice.data_specs.results import DataRef, Evaluation, Results, Score, Tile
from vice.evaluate.names import CHANGED_LIGHT, CLEAN, COLOUR_POSITION, TRAINED, UNTRAINED, in_classes

HEADLINE_LINEAR = {
    "linear": "Linear mIoU",
    "linear-over-groups": "Linear mIoU on groups the probe was not fitted on",
}
HEADLINE_MATCHING = "greedy train-fitted"
"""The one of the four mappings of clusters that the summary tells: it has seen no val label and suits any K."""


class Run(NamedTuple):
    """One run directory as the report shows it."""

    name: str
    folder: Path
    results: Results


class Row(NamedTuple):
    """Scores of one encoder in one evaluation, by run and condition; None where a run lacks them."""

    evaluation: str
    encoder: str
    first: bool
    """Whether it is the evaluation's first row."""
    cells: list[list[Score | None]]
    """Run, condition."""
    best: list[list[bool]]
    """Whether no other encoder of the same evaluation, run and condition has a higher mIoU."""


class ClassRow(NamedTuple):
    """One class in the table of classes."""

    name: str
    colour: str
    share: float
    """Of the labelled pixels."""
    iou: list[float | None]
    """A column per encoder and condition."""


class Picture(NamedTuple):
    """A tile, with its bytes."""

    caption: str
    data: str | None
    """`data:` address, None where the file is missing."""


class PictureRow(NamedTuple):
    """One val picture under one condition; None keeps a column free."""

    key: str
    condition: str
    pictures: list[Picture | None]


def conditions_of(runs: Sequence[Run]) -> list[str]:
    """All conditions, in the order of the records."""
    evaluations = [evaluation for run in runs for evaluation in run.results.evaluations.values()]
    return list(dict.fromkeys(c for evaluation in evaluations for by in evaluation.encoders.values() for c in by))


def tested_on(runs: Sequence[Run]) -> list[DataRef]:
    """The val shards of all evaluations, each once."""
    vals = [evaluation.val for run in runs for evaluation in run.results.evaluations.values()]
    return list({val.fingerprint: val for val in vals}.values())


def score_rows(runs: Sequence[Run], kind: str) -> list[Row]:
    """A row per evaluation of a kind and encoder, the runs side by side."""
    conditions = conditions_of(runs)
    of_kind = [{n: e for n, e in run.results.evaluations.items() if e.kind == kind} for run in runs]
    rows = []
    for name in dict.fromkeys(name for evaluations in of_kind for name in evaluations):
        by_run = [evaluations[name].encoders if name in evaluations else {} for evaluations in of_kind]
        tops = [_tops(encoders, conditions) for encoders in by_run]
        for number, encoder in enumerate(dict.fromkeys(e for encoders in by_run for e in encoders)):
            cells = [[encoders.get(encoder, {}).get(condition) for condition in conditions] for encoders in by_run]
            best = [
                [score is not None and score.miou == top for score, top in zip(scores, of_run, strict=True)]
                for scores, of_run in zip(cells, tops, strict=True)
            ]
            rows.append(Row(name, encoder, number == 0, cells, best))
    return rows


def _tops(encoders: Mapping[str, Mapping[str, Score]], conditions: Sequence[str]) -> list[float | None]:
    """The highest mIoU of each condition."""
    by_condition = ([by[condition].miou for by in encoders.values() if condition in by] for condition in conditions)
    return [max(values, default=None) for values in by_condition]


def class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """A row per class, most frequent first, with its colour in the pictures and a column per encoder and condition."""
    scores = [score for by_condition in evaluation.encoders.values() for score in by_condition.values()]
    names = list(scores[0].iou)
    labelled = [sum(row) for row in scores[0].confusion]
    rows = [
        ClassRow(
            name,
            evaluation.colours.get(name, "transparent"),
            count / max(sum(labelled), 1),
            [score.iou[name] for score in scores],
        )
        for name, count in zip(names, labelled, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.share)


def summary(run: Run) -> list[str]:
    """The results of a run in plain sentences."""
    evaluations = run.results.evaluations
    sentences = [f"Trained on {run.results.checkpoint.views_seen:,} views"]
    if run.results.training is not None:
        curve = run.results.training
        gap = curve.ln_num_concepts - curve.loss[-1]
        sentences[0] += f"; loss {curve.loss[-1]:.2f}, {abs(gap):.2f} {'below' if gap > 0 else 'above'} ln K."
    else:
        sentences[0] += "."
    for class_set in dict.fromkeys(evaluation.val.class_set for evaluation in evaluations.values()):
        for plain, what in HEADLINE_LINEAR.items():
            name = in_classes(plain, class_set)
            if name in evaluations:
                sentences += _compared(_in_words(what, class_set), evaluations[name])
    for name, evaluation in evaluations.items():
        if evaluation.kind == "cluster" and name.endswith(HEADLINE_MATCHING):
            what = f"mIoU of {evaluation.settings['kmeans']['num_clusters']} clusters"
            sentences += _compared(_in_words(what, evaluation.val.class_set), evaluation)
    return sentences


def _in_words(what: str, class_set: str | None) -> str:
    return what if class_set is None else f"{what} in the set of classes {class_set}"


def _compared(what: str, evaluation: Evaluation) -> Iterator[str]:
    """Sentences on one evaluation: on clean pictures, then under changed light."""
    for condition, lead in ((CLEAN, what), (CHANGED_LIGHT, f"{what} under changed light")):
        shares = {encoder: by[condition].miou for encoder, by in evaluation.encoders.items() if condition in by}
        told = [f"{percent(shares[name])} % {name}" for name in (TRAINED, UNTRAINED, COLOUR_POSITION) if name in shares]
        if not told:
            continue
        if TRAINED in shares and UNTRAINED in shares:
            told[1] += f" ({signed(shares[TRAINED] - shares[UNTRAINED])} points by training)"
        yield f"{lead}: {', '.join(told)}."


def picture_rows(run: Run, evaluation: Evaluation) -> list[PictureRow]:
    """The evaluation's pictures: a row per val picture and condition, the same thing in the same column."""
    columns = list(dict.fromkeys((tile.encoder, tile.shows) for tile in evaluation.tiles))
    tiles = {(tile.key, tile.condition, tile.encoder, tile.shows): tile for tile in evaluation.tiles}
    keys = dict.fromkeys(tile.key for tile in evaluation.tiles)
    conditions = dict.fromkeys(tile.condition for tile in evaluation.tiles)
    return [
        PictureRow(key, condition, [_picture(run.folder, tiles.get((key, condition, *column))) for column in columns])
        for key in keys
        for condition in conditions
    ]


def _picture(folder: Path, tile: Tile | None) -> Picture | None:
    if tile is None:
        return None
    path = (folder / tile.file).resolve()
    caption = f"{tile.encoder}: {tile.shows}" if tile.encoder else tile.shows
    # Only pictures beside the record: a record from elsewhere cannot make the page carry other files.
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return Picture(caption, None)
    return Picture(caption, "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode())


def facts(run: Run) -> dict[str, Any]:
    """Where a run's numbers come from."""
    checkpoint = run.results.checkpoint
    data = [ref for evaluation in run.results.evaluations.values() for ref in (evaluation.train, evaluation.val)]
    return {
        "configuration": checkpoint.name,
        "step": f"{checkpoint.step:,} of {checkpoint.num_steps:,}",
        "views seen": f"{checkpoint.views_seen:,}",
        "concepts (K)": checkpoint.num_concepts,
        "checkpoint sha256": checkpoint.sha256,
        "trained on shards": checkpoint.shards_fingerprint,
        **{f"{ref.dataset}, {ref.split} ({ref.num_pictures} pictures)": ref.fingerprint for ref in data},
        **{f"{library} version": version for library, version in run.results.versions.items()},
    }


def percent(share: float | None) -> str:
    """A share as per cent with one decimal, a dash for none."""
    return "–" if share is None else f"{100 * share:.1f}"


def signed(difference: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")

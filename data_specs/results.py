"""`results.json`, version 1: the record of evaluations, from which alone the report is drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from vice.data_specs.errors import InputError
from vice.data_specs.validation import StrictModel, parse

RESULTS_FILE = "results.json"
RESULTS_VERSION = 1


class Score(StrictModel):
    """One encoder on one condition of the validation pictures; all shares are 0..1, over labelled pixels only."""

    miou: float
    """Mean over the classes that occur in labels or predictions of intersection over union."""
    accuracy: float
    """Share of pixels predicted right."""
    mean_accuracy: float
    """Mean over the classes that occur of the share of the class's pixels predicted right."""
    iou: dict[str, float | None]
    """Per class; None where the class occurs neither in labels nor in predictions."""
    confusion: list[list[int]]
    """Pixel counts, rows: labelled class, columns: predicted class."""


class DataRef(StrictModel):
    """The shards that an evaluation read."""

    dataset: str
    split: str
    num_pictures: int
    fingerprint: str
    class_set: str | None = None
    """The spec's set of classes that labels were read in; None as they are stored."""


class Tile(StrictModel):
    """One drawn picture, a PNG file beside the record."""

    file: str
    """Path relative to the run directory."""
    key: str
    """The sample's key in the val shards."""
    condition: str
    """What the picture was evaluated under."""
    encoder: str | None
    """Whose output it shows; None for the picture itself and its labels."""
    shows: Literal["picture", "labels", "prediction", "embedding", "clusters", "clusters as classes"]


class Evaluation(StrictModel):
    """One evaluation: what was asked, on which data, and every encoder's scores by condition."""

    kind: Literal["linear", "cluster"]
    settings: dict[str, Any]
    """Everything that decides the numbers: seeds, number of vectors, k-means settings, matching rule and its split."""
    train: DataRef
    val: DataRef
    encoders: dict[str, dict[str, Score]]
    """Encoder name (`trained`, `untrained`, `colour + position`) to condition (`clean`, `changed light`) to score."""
    seconds: float
    """Wall time of the evaluation."""
    tiles: list[Tile] = []
    """Some val pictures with what the encoders made of them, for the report."""
    colours: dict[str, str] = {}
    """Class to its colour in the tiles, as `#rrggbb`."""


class CheckpointRef(StrictModel):
    """The checkpoint that the results belong to."""

    sha256: str
    """Of the checkpoint file."""
    name: str
    """The run's configuration name (preset)."""
    step: int
    num_steps: int
    num_concepts: int
    views_seen: int
    shards_fingerprint: str
    """Of the shards it was trained on."""


class TrainingCurve(StrictModel):
    """The loss of the run that wrote the checkpoint, thinned to what a chart needs."""

    steps: list[int]
    loss: list[float]
    """Mean of the logged losses since the step before."""
    ln_num_concepts: float
    """Loss of an encoder that tells no concept from another: a curve that stays there learns nothing."""


class Results(StrictModel):
    """`results.json`: one entry per evaluation of one checkpoint."""

    format: Literal["vice-results"] = "vice-results"
    version: int = RESULTS_VERSION
    checkpoint: CheckpointRef
    training: TrainingCurve | None = None
    """None where the checkpoint stands alone, without its run's metrics."""
    versions: dict[str, str]
    """Library versions of the last evaluation written."""
    evaluations: dict[str, Evaluation] = {}
    """By name: `linear`, `cluster-27 greedy train-fitted`, `linear-without-0006R0`, `linear-over-groups`; where labels
    were read in a set of classes, its name stands before it: `classes-19 linear`."""

    def with_evaluation(self, name: str, evaluation: Evaluation) -> Results:
        """These results with one entry added or replaced."""
        return self.model_copy(update={"evaluations": {**self.evaluations, name: evaluation}})


def read_results(run_dir: Path) -> Results | None:
    """Read a run directory's `results.json`, or None where there is none.

    Raises:
        InputError: the file is not ours, or of another version.
    """
    path = Path(run_dir) / RESULTS_FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError("not readable as JSON", where=path, hint="use another --run-dir") from None
    if not isinstance(data, dict) or data.get("format") != "vice-results" or data.get("version") != RESULTS_VERSION:
        raise InputError("not results of this program's version", where=path, hint="use another --run-dir")
    return parse(Results, data, where=path)


def write_results(run_dir: Path, results: Results) -> Path:
    """Write `results.json` aside and rename it into place; returns its path."""
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / RESULTS_FILE
    aside = path.with_suffix(".tmp")
    with aside.open("w", encoding="utf-8") as file:
        file.write(results.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    return path

"""`results.json` of a run directory: opened for one checkpoint, one entry added per evaluation, whole after each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import sha256_file
from vice.data_specs.results import (
    RESULTS_FILE,
    CheckpointRef,
    Evaluation,
    Results,
    TrainingCurve,
    read_results,
    write_results,
)
from vice.train.records.checkpoint import Checkpoint

LIBRARIES = ("vice-dense", "torch", "numpy", "scipy", "faiss-gpu", "faiss-cpu", "opencv-contrib-python")
CURVE_POINTS = 400
METRICS_FILE = "metrics.jsonl"


def open_record(run_dir: Path, checkpoint: Path, loaded: Checkpoint) -> Results:
    """The results of a run directory, new where it has none, for one checkpoint.

    Args:
        run_dir: may not exist yet; nothing is written.
        checkpoint: the checkpoint's file; its run is the folder above `checkpoints/`.
        loaded: what was read from it.

    Raises:
        InputError: the directory holds another checkpoint's results (names both), or its record is not ours.
    """
    info = loaded.info
    ref = CheckpointRef(sha256=sha256_file(checkpoint), **info._asdict())
    there = read_results(run_dir)
    if there is not None and there.checkpoint.sha256 != ref.sha256:
        raise InputError(
            f"holds results of checkpoint {describe(there.checkpoint)}, not of {describe(ref)}",
            where=Path(run_dir) / RESULTS_FILE,
            hint="give another --run-dir",
        )
    return Results(
        checkpoint=ref,
        training=read_curve(checkpoint.parent.parent / METRICS_FILE, num_concepts=info.num_concepts, up_to=info.step),
        versions=versions(),
        evaluations=there.evaluations if there is not None else {},
    )


def add(run_dir: Path, results: Results, entries: Mapping[str, Evaluation]) -> tuple[Results, Path]:
    """Write the results with these entries added or replaced; returns them and the record's path."""
    for name, evaluation in entries.items():
        results = results.with_evaluation(name, evaluation)
    return results, write_results(run_dir, results)


def describe(ref: CheckpointRef) -> str:
    """A checkpoint in a few words: name, step, and the first digits of its sha256."""
    return f"{ref.name} step {ref.step} ({ref.sha256[:12]})"


def versions() -> dict[str, str]:
    """Installed versions of the libraries that make the numbers."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # one of the two builds of FAISS is enough
    return found


def read_curve(path: Path, *, num_concepts: int, up_to: int) -> TrainingCurve | None:
    """The loss curve up to a step from a run's metrics, thinned to CURVE_POINTS means; None where there is none.

    Lines that are not whole (a run that was killed while writing) or that lack a step or a loss are left out.
    """
    logged = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            step, loss = int(entry["step"]), float(entry["loss"])
        except (ValueError, KeyError, TypeError):
            continue
        if step <= up_to and math.isfinite(loss):
            logged[step] = loss  # a resumed run logs some steps again: the last one counts
    if not logged:
        return None
    steps = np.array(sorted(logged))
    parts = np.array_split(steps, min(CURVE_POINTS, len(steps)))
    return TrainingCurve(
        steps=[int(part[-1]) for part in parts],
        loss=[float(np.mean([logged[int(step)] for step in part])) for part in parts],
        ln_num_concepts=math.log(num_concepts),
    )

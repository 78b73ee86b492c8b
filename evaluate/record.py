"""`results.json` of a run directory: opened for one encoder, entries added one by one, whole after each."""

from __future__ import annotations

import fcntl
import itertools
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vice.data_specs.atlas_entry import Atlas
from vice.data_specs.entries import Entry, Evaluation, RegionBounds
from vice.data_specs.errors import InputError
from vice.data_specs.results import RESULTS_FILE, EncoderRef, Results, TrainingCurve, read_results, write_results
from vice.evaluate.names import numbered

LIBRARIES = ("vice-dense", "torch", "timm", "numpy", "scipy", "faiss-gpu", "faiss-cpu", "opencv-contrib-python")
CURVE_POINTS = 400
METRICS_FILE = "metrics.jsonl"
_LOCK = ".results.lock"


class Added(NamedTuple):
    """Where entries were written, and under which keys."""

    path: Path
    """Of `results.json`."""
    keys: dict[str, str]
    """Name of an entry to its key: another one where the name is taken by other settings."""


def check_record(run_dir: Path, encoder: EncoderRef | None) -> None:
    """Make a run directory, and check before anything is computed that it takes results of this encoder.

    Args:
        run_dir: may not exist yet.
        encoder: None for results of region layers, which no encoder has a part in.

    Raises:
        InputError: the directory holds another encoder's results (names both), its record is not ours, or it cannot be
            made.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir):
            pass
    except OSError as error:
        what = f"cannot write to this folder ({error.strerror})"
        raise InputError(what, where=run_dir, hint="use another --run-dir") from None
    _check_encoder(run_dir, read_results(run_dir), encoder)


def add(
    run_dir: Path,
    *,
    encoder: EncoderRef | None = None,
    training: TrainingCurve | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
    regions: Mapping[str, RegionBounds] | None = None,
    atlases: Mapping[str, Atlas] | None = None,
) -> Added:
    """Add entries to the record; several processes may do so at once. Only an entry of equal settings is replaced.

    Args:
        run_dir: of `check_record`.
        encoder: whose results they are; None for region layers.
        training: the loss curve of its run.
        evaluations: by name; see `Results`.
        regions: by name.
        atlases: by name.

    Raises:
        InputError: the directory now holds another encoder's results.
    """
    keys: dict[str, str] = {}
    with _locked(run_dir):
        there = read_results(run_dir) or Results()
        _check_encoder(run_dir, there, encoder)
        changes = {
            "encoder": encoder or there.encoder,
            "training": training or there.training,
            "evaluations": _with(there.evaluations, evaluations, keys),
            "regions": _with(there.regions, regions, keys),
            "atlases": _with(there.atlases, atlases, keys),
        }
        return Added(write_results(run_dir, there.model_copy(update=changes)), keys)


def _with(there: Mapping[str, Entry], new: Mapping[str, Entry] | None, keys: dict[str, str]) -> dict[str, Entry]:
    """The entries there and the new ones, whose keys are noted; a name with other settings gets the next number."""
    entries, made_with = dict(there), {"versions": versions(), "threads": num_threads()}
    for name, entry in (new or {}).items():
        candidates = (numbered(name, number) for number in itertools.count(1))
        keys[name] = next(key for key in candidates if key not in entries or entries[key].identity == entry.identity)
        entries[keys[name]] = entry.model_copy(update={"name": name, **made_with})
    return entries


def _check_encoder(run_dir: Path, there: Results | None, encoder: EncoderRef | None) -> None:
    held = None if there is None else there.encoder
    if encoder is not None and held is not None and held.sha256 != encoder.sha256:
        raise InputError(
            f"holds results of {describe(held)}, not of {describe(encoder)}",
            where=Path(run_dir) / RESULTS_FILE,
            hint="give another --run-dir",
        )


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """One writer at a time: what another one added meanwhile is read before anything is written."""
    with (Path(run_dir) / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def describe(ref: EncoderRef) -> str:
    """An encoder in a few words: kind, name, step or maps, and the first digits of its sha256."""
    step = "" if ref.step is None else f" step {ref.step}"
    maps = {"all": " all maps", "last": " last map", None: ""}[ref.levels]
    reduced = "" if ref.dims is None else f" {ref.dims} values"
    return f"{ref.kind} {ref.name}{step}{maps}{reduced} ({ref.sha256[:12]})"


def versions() -> dict[str, str]:
    """Installed versions of the libraries that make the numbers."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # one of the two builds of FAISS is enough
    return found


def num_threads() -> int:
    """Threads of a CPU's matrix products here: as torch has them where it is loaded, else all that may be used."""
    torch = sys.modules.get("torch")
    return len(os.sched_getaffinity(0)) if torch is None else torch.get_num_threads()


def read_curve(path: Path, *, num_concepts: int, up_to: int) -> TrainingCurve | None:
    """The loss curve up to a step from a run's metrics, thinned to CURVE_POINTS means; None where there is none.

    Lines that are not whole (a run that was killed while writing) or that lack a step or a loss are left out.
    """
    logged: dict[int, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            step, losses = int(entry["step"]), _losses(entry)
        except (ValueError, KeyError, TypeError):
            continue
        if step <= up_to and all(map(math.isfinite, losses.values())):
            logged[step] = losses  # a resumed run logs some steps again: the last one counts
    if not logged:
        return None
    steps = np.array(sorted(logged))
    parts = np.array_split(steps, min(CURVE_POINTS, len(steps)))
    names = [name for name in logged[int(steps[-1])] if all(name in losses for losses in logged.values())]
    means = {name: [float(np.mean([logged[int(step)][name] for step in part])) for part in parts] for name in names}
    loss = means.pop("loss")
    predicts = not means or "swapped_prediction" in means
    return TrainingCurve(
        steps=[int(part[-1]) for part in parts],
        loss=loss,
        ln_num_concepts=math.log(num_concepts) if predicts else None,
        terms=means,
    )


def _losses(entry: Mapping[str, Any]) -> dict[str, float]:
    """The loss of a line of metrics, and its terms by name."""
    terms = {name.removeprefix("loss/"): float(value) for name, value in entry.items() if name.startswith("loss/")}
    return {"loss": float(entry["loss"]), **terms}


def curve_of(run_dir: Path | None, encoder: EncoderRef) -> TrainingCurve | None:
    """The loss curve of the run that a checkpoint lies in, up to its step; None where there is none."""
    if run_dir is None or encoder.step is None or encoder.num_concepts is None:
        return None
    return read_curve(run_dir / METRICS_FILE, num_concepts=encoder.num_concepts, up_to=encoder.step)

"""`results.json`, version 3: the record of evaluations, from which alone the report is drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from vice.data_specs.atlas_entry import Atlas
from vice.data_specs.entries import Evaluation, Levels, RegionBounds
from vice.data_specs.errors import InputError
from vice.data_specs.validation import StrictModel, parse

RESULTS_FILE = "results.json"
RESULTS_FORMAT, RESULTS_VERSION = "vice-results", 3
READABLE_VERSIONS = (2, 3)
"""Version 2 had one entry of a name, and the library versions of the last one for all."""


class EncoderRef(StrictModel):
    """The encoder that the results of a run directory belong to."""

    kind: Literal["checkpoint", "export", "timm", "torchvision", "python"]
    name: str
    """The run's configuration name (preset), the network's name, or `module:object`."""
    sha256: str
    """Of the checkpoint or the exported weights; else of everything that names the encoder."""
    dim: int
    """Values per cell of an embedding map."""
    stride: int
    """Picture pixels per cell."""
    weights: str = ""
    """Where the weights came from, in words."""
    levels: Levels | None = None
    """Of a backbone's maps; None for other encoders, and for last maps in older records."""
    dims: int | None = None
    """Values per cell that a PCA left; None without one."""
    step: int | None = None
    """This and what follows: of checkpoints and exports only."""
    num_steps: int | None = None
    num_concepts: int | None = None
    views_seen: int | None = None
    shards_fingerprint: str | None = None
    """Of the shards it was trained on."""


class TrainingCurve(StrictModel):
    """The loss of the run that wrote the checkpoint, thinned to what a chart needs."""

    steps: list[int]
    loss: list[float]
    """Mean of the logged losses since the step before."""
    ln_num_concepts: float | None
    """Swapped prediction of a network that tells no concept from another: a curve that stays there learns nothing.
    None where no concepts are predicted."""
    terms: dict[str, list[float]] = {}
    """Each term of the loss without its weight, by its name, at the same steps; empty in older records."""

    @property
    def prediction(self) -> list[float]:
        """What `ln_num_concepts` is compared with: swapped prediction, which is all of the loss in older records."""
        return self.terms.get("swapped_prediction", self.loss)


class Results(StrictModel):
    """`results.json`: one entry per evaluation of one encoder."""

    format: Literal["vice-results"] = RESULTS_FORMAT
    version: int = RESULTS_VERSION
    encoder: EncoderRef | None = None
    """None as long as only region layers were evaluated."""
    training: TrainingCurve | None = None
    """None where the checkpoint stands alone, without its run's metrics."""
    versions: dict[str, str] = {}
    """Library versions of the last evaluation that version 2 wrote; later entries hold their own."""
    evaluations: dict[str, Evaluation] = {}
    """By name: `linear`, `cluster-27 greedy train-fitted`, `neighbors`, `linear-without-0006R0`; the set of classes,
    the size that pictures were brought to, and averaging stand before it: `averaged short-side-320 linear`. Entries of
    one name that differ in anything else are numbered: `settings-2 linear`."""
    regions: dict[str, RegionBounds] = {}
    """By the name of the data: `camvid val`."""
    atlases: dict[str, Atlas] = {}
    """By the name of the data and the region layer: `camvid val slic20`."""


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
    if not isinstance(data, dict) or data.get("format") != RESULTS_FORMAT:
        raise InputError("not results of this program", where=path, hint="use another --run-dir")
    if data.get("version") not in READABLE_VERSIONS:
        what = f"results of version {data.get('version')!r}, not {RESULTS_VERSION}"
        raise InputError(what, where=path, hint="evaluate again, into another --run-dir")
    return parse(Results, data | {"version": RESULTS_VERSION}, where=path)


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

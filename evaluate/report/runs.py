"""Run directories as the report shows them: records, told apart by name, grouped by the data they were tested on."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vice.data_specs.entries import DataRef, Evaluation
from vice.data_specs.errors import InputError
from vice.data_specs.results import RESULTS_FILE, EncoderRef, Results, read_results
from vice.evaluate.names import CLEAN

MIME = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


class Run(NamedTuple):
    """One run directory."""

    name: str
    folder: Path
    results: Results

    def picture(self, file: str) -> str | None:
        """A picture beside the record as a `data:` address; None where it is missing.

        Only what lies below the folder: a record from elsewhere cannot make the page carry other files.
        """
        path = (self.folder / file).resolve()
        mime = MIME.get(path.suffix.lower())
        if mime is None or not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            return None
        return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


class Group(NamedTuple):
    """Evaluations on the same val pictures in the same classes: one table, a row for each set of settings."""

    ref: DataRef
    classes: list[str]
    runs: list[Run]
    evaluations: list[dict[str, Evaluation]]
    """By run."""

    @property
    def title(self) -> str:
        """The data in a few words."""
        stored = "" if self.ref.class_set is None else f" (set {self.ref.class_set})"
        return f"{self.ref.dataset} {self.ref.split}, {len(self.classes)} classes{stored}"

    @property
    def conditions(self) -> list[str]:
        """All conditions, clean first."""
        every = (by for found in self.evaluations for entry in found.values() for by in entry.encoders.values())
        return list(dict.fromkeys([CLEAN, *(condition for by in every for condition in by)]))


def load_runs(run_dirs: Sequence[Path]) -> list[Run]:
    """Read the records; runs of one configuration and step are told apart by their folder.

    Raises:
        InputError: a directory has no readable record, or nothing in it.
    """
    records = []
    for folder in {Path(run_dir).resolve(): Path(run_dir) for run_dir in run_dirs}.values():
        results = read_results(folder)
        if results is None or not (results.evaluations or results.regions or results.atlases):
            hint = "write one with vice-eval all, linear, cluster, neighbors, regions or atlas"
            raise InputError(f"no {RESULTS_FILE} with an evaluation", where=folder, hint=hint)
        records.append((folder, results))
    names = [_name(results) for _, results in records]
    return [
        Run(name if names.count(name) == 1 else f"{name} ({folder})", folder, results)
        for name, (folder, results) in zip(names, records, strict=True)
    ]


def _name(results: Results) -> str:
    encoder = results.encoder
    if encoder is None:
        return "region layers"
    if encoder.step is None:
        return encoder.name if encoder.kind == "python" else described(encoder)
    return f"{encoder.name}, step {encoder.step:,}"


def described(encoder: EncoderRef) -> str:
    """An encoder that is no run of ours in a few words: name, weights, which maps."""
    maps = {"all": ", all maps", "last": ", last map", None: ""}[encoder.levels]
    reduced = "" if encoder.dims is None else f", {encoder.dims} values"
    return f"{encoder.name}, {encoder.weights} weights{maps}{reduced}"


def groups(runs: Sequence[Run]) -> list[Group]:
    """The evaluations of all runs, grouped by val pictures and classes, in the order of the records."""
    keys: dict[tuple[str, str | None], tuple[DataRef, list[str]]] = {}
    for run in runs:
        for entry in run.results.evaluations.values():
            score = next(iter(next(iter(entry.encoders.values())).values()))
            keys.setdefault(_key(entry), (entry.val, list(score.iou)))
    found = []
    for key, (ref, classes) in keys.items():
        of_runs = [{n: e for n, e in run.results.evaluations.items() if _key(e) == key} for run in runs]
        having = [number for number, entries in enumerate(of_runs) if entries]
        found.append(Group(ref, classes, [runs[n] for n in having], [of_runs[n] for n in having]))
    return found


def _key(entry: Evaluation) -> tuple[str, str | None]:
    return entry.val.fingerprint, entry.val.class_set

"""The paper's factors one at a time on CamVid, from random weights, with equal numbers of views: a study that resumes.

    vice-prep shard CAMVID/train OUT/train --dataset camvid --split train --short-side 240 \\
        --regions slic:10 --regions slic:20 --regions slic:40      (and the same for val)
    python benchmarks/camvid_study.py --shards OUT --output STUDY [--views 12800] [--seeds 0 1 2] [--rows ROW ...]

    python benchmarks/camvid_study.py --shards OUT --output STUDY --speed     views/s of every row, on quiet cores

Every row differs from `base` in one setting. Run again, it goes on where it was stopped, in training (from the last
checkpoint) and between rows; another budget wants another folder. STUDY/table.md is written anew after every
result: linear and cluster mIoU on val by row over the seeds, views/s and wall time, and `base` over the views seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
from machine import machine, versions

from vice.data_specs.results import Evaluation
from vice.evaluate.encoders.network import NetworkEncoder
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.encoders.raw import ColourPositionEncoder
from vice.evaluate.evaluators.cluster import ClusterEvaluator
from vice.evaluate.evaluators.linear import LinearEvaluator
from vice.evaluate.evaluators.protocol import Setup
from vice.evaluate.evaluators.running import run_evaluators
from vice.evaluate.options import Drawing, KMeansSettings, ProbeSettings
from vice.evaluate.scenes import open_pair
from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.config_files import load_config
from vice.train.distributed import Process
from vice.train.loop import train
from vice.train.network.model import OUTPUT_STRIDE
from vice.train.records.checkpoint import initial_model, load_region_model, read_checkpoint
from vice.train.records.run_dir import open_run

ROWS: dict[str, list[str]] = {
    "base": [],
    "pixel": ["views.regions=pixel"],
    "grid": ["views.regions=grid:20"],
    "10 px": ["views.regions=slic:10"],
    "40 px": ["views.regions=slic:40"],
    "unmasked": ["views.mask_share=0"],
    "offline": ["assignment.method=kmeans"],
    "deeplabv3plus": ["model.decoder=deeplabv3plus", "model.output_stride=16"],
}
"""Row to the settings in which it differs from `base`: superpixels of 20 px, masking, FPN, online assignment."""
SHARED = ["views.regions=slic:20"]
UNTRAINED = {"untrained": "base", "untrained deeplabv3plus": "deeplabv3plus"}
"""Initial weights that are evaluated, and of which row's runs."""
CURVE = (1 / 8, 1 / 4, 1 / 2)
"""Shares of the views at which `base` is evaluated on the way."""
NUM_CLUSTERS, PIXELS = 27, 200
CLUSTER = f"cluster-{NUM_CLUSTERS} greedy train-fitted"


class Cell(NamedTuple):
    """One result: a row at a share of its views (1 is the end) with a seed."""

    row: str
    share: float
    seed: int


class Study:
    """The study's folder, with what is already known.

    Args:
        shards: folder of the shards `train` and `val`.
        output: the study's folder.
        num_views: budget of every run.
        device: where everything runs.
    """

    def __init__(self, shards: Path, output: Path, num_views: int, device: torch.device):
        self.train, self.val = open_pair(shards / "train", shards / "val")
        self._pair = shards
        self.output, self.num_views, self.device = output, num_views, device
        output.mkdir(parents=True, exist_ok=True)
        self._check_budget()

    def _check_budget(self) -> None:
        path = self.output / "study.json"
        made_by = {"views": self.num_views, "train": self.train.fingerprint, "val": self.val.fingerprint}
        if path.exists() and json.loads(path.read_text())["made_by"] != made_by:
            raise SystemExit(f"error: {path} is of another budget or other shards: give another --output")
        about = {"made_by": made_by, "date": date.today().isoformat(), "machine": machine(), "versions": versions()}
        path.write_text(json.dumps(about, indent=1))

    def config(self, row: str, seed: int) -> TrainConfig:
        """Settings of a run: the preset's recipe, and as many epochs as the budget has views."""
        overrides = [*SHARED, *ROWS[row], f"seed={seed}", "pictures_every=0", "keep_checkpoints=99"]
        first = load_config("camvid-cpu", overrides)
        views_per_step = first.global_batch * first.views.num_views
        num_steps = self.num_views // views_per_step
        every = max(1, round(num_steps * CURVE[0]))
        epochs = num_steps * first.global_batch / len(self.train)
        return load_config("camvid-cpu", [*overrides, f"epochs={epochs}", f"checkpoint_every={every}"])

    def finish(self, cell: Cell) -> None:
        """Train and evaluate what a cell needs, unless that was done."""
        path = self._result_path(cell)
        if path.exists():
            return
        run_dir = self._run(UNTRAINED.get(cell.row, cell.row), cell.seed)
        encoder, at_step = self._encoder(cell, run_dir)
        result = {"step": at_step, **self._scores(encoder, path.with_suffix(""))}
        if cell.share == 1 and cell.row not in UNTRAINED:
            result |= _speed(run_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp")
        aside.write_text(json.dumps(result))
        aside.rename(path)

    def raw(self) -> dict:
        """Scores of colour and position."""
        path = self.output / "results" / "raw.json"
        if not path.exists():
            scores = self._scores(ColourPositionEncoder(), path.with_suffix(""))
            path.write_text(json.dumps(scores))
        return json.loads(path.read_text())

    def result(self, cell: Cell) -> dict | None:
        """A cell's numbers, if they are known."""
        path = self._result_path(cell)
        return json.loads(path.read_text()) if path.exists() else None

    def _result_path(self, cell: Cell) -> Path:
        return self.output / "results" / f"{cell.row.replace(' ', '-')}-{cell.share:g}-seed{cell.seed}.json"

    def _run(self, row: str, seed: int) -> Path:
        """The folder of a finished run."""
        run_dir = self.output / "runs" / f"{row.replace(' ', '-')}-seed{seed}"
        config = self.config(row, seed)
        open_run(run_dir, config)
        started = time.perf_counter()
        # opened anew: a run's own reader ends with it
        train(config, Shards(self._pair / "train"), run_dir, Process(0, 1, self.device))
        print(f"{row}, seed {seed}: trained in {time.perf_counter() - started:.0f} s", flush=True)
        return run_dir

    def _encoder(self, cell: Cell, run_dir: Path) -> tuple[Encoder, int]:
        folder = run_dir / "checkpoints"
        wanted = read_checkpoint(folder / "last.pt").state["num_steps"] * cell.share
        path = min(folder.glob("step-*.pt"), key=lambda path: abs(int(path.stem.split("-")[1]) - wanted))
        checkpoint = read_checkpoint(path)
        untrained = cell.row in UNTRAINED
        model = initial_model(checkpoint.config) if untrained else load_region_model(checkpoint).dense.eval()
        size_multiple = model.size_multiple
        encoder = NetworkEncoder(cell.row, model, stride=OUTPUT_STRIDE, size_multiple=size_multiple, device=self.device)
        return encoder, 0 if cell.row in UNTRAINED else checkpoint.info.step

    def _scores(self, encoder: Encoder, folder: Path) -> dict:
        started = time.perf_counter()
        setup, drawing = Setup(self.train, self.val, folder), Drawing(pixels_per_picture=PIXELS)
        kmeans = KMeansSettings(restarts=2)
        evaluators = [
            LinearEvaluator(setup, drawing=drawing, recipe=ProbeSettings()),
            ClusterEvaluator(setup, num_clusters=(NUM_CLUSTERS,), drawing=drawing, kmeans=kmeans),
        ]
        entries = run_evaluators(evaluators, [encoder], setup)
        print(f"{encoder.name}: evaluated in {time.perf_counter() - started:.0f} s", flush=True)
        return {"linear": _mious(entries["linear"], encoder), "cluster": _mious(entries[CLUSTER], encoder)}


def _mious(evaluation: Evaluation, encoder: Encoder) -> dict[str, float]:
    """Mean IoU in percent by condition."""
    return {name: 100 * score.miou for name, score in evaluation.encoders[encoder.name].items()}


def _speed(run_dir: Path) -> dict[str, float]:
    """Views a second and seconds of a whole run, whatever interrupted it: of the lines of its metrics."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    seen = [0, *(line["views_seen"] for line in lines)]
    seconds = sum(
        (after - before) / line["views_per_second"] for before, after, line in zip(seen, seen[1:], lines, strict=False)
    )
    return {"views_per_second": seen[-1] / seconds, "seconds": seconds}


def speeds(study: Study, rows: Sequence[str], rounds: int = 2) -> str:
    """Views a second of every row in the second half of 120 steps; medians of rounds in turn, in Markdown."""
    found: dict[str, list[float]] = {row: [] for row in rows}
    for _ in range(rounds):
        for row in rows:
            config = study.config(row, 0)
            num_steps, half = 120, {"log_every": 60, "checkpoint_every": 120}
            epochs = num_steps * config.global_batch / len(study.train)
            config = config.model_copy(update={"epochs": epochs, **half})
            with tempfile.TemporaryDirectory() as folder:
                train(config, study.train, Path(folder), Process(0, 1, study.device))
                line = json.loads((Path(folder) / "metrics.jsonl").read_text().splitlines()[-1])
            found[row].append(line["views_per_second"])
    lines = ["| | views/s, median (min–max) |", "|---|---|"]
    for row, values in found.items():
        lines.append(f"| {row} | {statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f}) |")
    return "\n".join(lines) + "\n"


def cells(rows: Sequence[str], seeds: Sequence[int]) -> Iterator[Cell]:
    """Everything to be known, so that a study that is cut off has whole seeds."""
    for seed in seeds:
        for row in rows:
            yield Cell(row, 1, seed)
        for name, of in UNTRAINED.items():
            if of in rows:
                yield Cell(name, 0, seed)
        if "base" in rows:
            yield from (Cell("base", share, seed) for share in CURVE)


def table(study: Study, rows: Sequence[str], seeds: Sequence[int]) -> str:
    """Both tables, in Markdown."""
    head = ["", "seeds", "linear, clean", "linear, changed light", f"{NUM_CLUSTERS} clusters, clean", "changed light"]
    lines = ["| " + " | ".join([*head, "views/s", "minutes"]) + " |", "|" + "---|" * (len(head) + 2)]
    names = [Cell(row, 1, 0) for row in rows] + [Cell(name, 0, 0) for name, of in UNTRAINED.items() if of in rows]
    lines += [_line(name.row, _known(study, name, seeds)) for name in names]
    lines.append(_line("colour + position", [study.raw()]))
    lines += ["", "| views seen by `base` | " + " | ".join(head[1:]) + " |", "|" + "---|" * len(head)]
    curve = [Cell("untrained", 0, 0), *(Cell("base", share, 0) for share in (*CURVE, 1))]
    for cell in curve if "base" in rows else []:
        lines.append(_line(f"{round(cell.share * study.num_views):,}", _known(study, cell, seeds), speed=False))
    return "\n".join(lines) + "\n"


def _known(study: Study, cell: Cell, seeds: Sequence[int]) -> list[dict]:
    found = [study.result(cell._replace(seed=seed)) for seed in seeds]
    return [result for result in found if result is not None]


def _line(name: str, results: Sequence[dict], *, speed: bool = True) -> str:
    columns = [name, str(len(results))]
    for kind in ("linear", "cluster"):
        for condition in ("clean", "changed light"):
            columns.append(_spread([result[kind][condition] for result in results]))
    if speed:
        columns.append(_spread([r["views_per_second"] for r in results if "views_per_second" in r], digits=0))
        columns.append(_spread([r["seconds"] / 60 for r in results if "seconds" in r]))
    return "| " + " | ".join(columns) + " |"


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean, and smallest to largest."""
    if not values:
        return "–"
    mean, low, high = (f"{value:.{digits}f}" for value in (statistics.mean(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({low}–{high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="folder of the shards `train` and `val`")
    parser.add_argument("--output", type=Path, required=True, help="the study's folder")
    parser.add_argument("--views", type=int, default=12800, help="views that every run sees")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--speed", action="store_true", help="measure views/s alone")
    given = parser.parse_args()
    if torch.cuda.is_available():
        device = torch.device("cuda")
    else:
        device = torch.device("cpu")
        torch.set_num_threads(max(1, machine()["cores"] - 1))
    study = Study(given.shards, given.output, given.views, device)
    if given.speed:
        print(speeds(study, given.rows))
        return
    for cell in cells(given.rows, given.seeds):
        study.finish(cell)
        (given.output / "table.md").write_text(table(study, given.rows, given.seeds))
    print(table(study, given.rows, given.seeds))


if __name__ == "__main__":
    main()

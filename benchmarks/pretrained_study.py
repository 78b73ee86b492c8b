"""What training adds to a pretrained encoder: runs next to the frozen encoder, on any labelled shards; resumes.

    vice-prep shard CAMVID/train OUT/train --dataset camvid --split train --short-side 240 --regions slic:20  (val too)
    python benchmarks/pretrained_study.py --train OUT/train --val OUT/val --output STUDY --views 8000 --seeds 0 1 2

Vectors of the teacher (the same encoder, which saw every picture at several sizes) are made once for --train. Each row
is the preset `cpu` with some settings changed. What the study knows lies in STUDY/results, one file per row and seed;
run again, it does what is missing, in training from the last checkpoint. STUDY/table.md is written after every result:
mIoU of a linear probe, of clusters and of neighbours, clean and under changed light, next to the baselines at the same
picture size. A probe has two penalties: the weaker one overfits many values, the stronger one holds few back.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions

from vice.evaluate.encoders.fitting import prepare
from vice.evaluate.encoders.opening import open_encoder
from vice.evaluate.evaluators.cluster import ClusterEvaluator
from vice.evaluate.evaluators.linear import LinearEvaluator
from vice.evaluate.evaluators.neighbors import NeighborEvaluator
from vice.evaluate.evaluators.protocol import Setup
from vice.evaluate.evaluators.running import run_evaluators
from vice.evaluate.options import Drawing, KMeansSettings, NeighborSettings, ProbeSettings
from vice.evaluate.scenes import open_pair
from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.config_files import load_config
from vice.train.distributed import Process
from vice.train.loop import train
from vice.train.records.run_dir import open_run

_ALONE = ["teacher=null", "assignment.source=student", "assignment.method=swav", "views.num_views=2"]
ROWS: dict[str, list[str]] = {
    "clusters": [],
    "cosine": ["losses.distillation.weight=1", "losses.swapped_prediction.weight=0"],
    "both": ["losses.distillation.weight=1"],
    "no teacher, symmetric": [*_ALONE, "losses.swapped_prediction.sides=symmetric"],
    "no teacher, one-sided": [*_ALONE, "losses.swapped_prediction.sides=one"],
}
"""Row to the settings in which it differs from the preset, which predicts the teacher's clusters."""
PENALTIES = (1e-5, 1e-3)
"""Of the linear probe: one that suits 128 values, and one that suits the frozen encoder's many."""
NUM_CLUSTERS = 27
CLUSTER = f"cluster-{NUM_CLUSTERS} greedy train-fitted"
CONDITIONS = ("clean", "changed light")


class Study:
    """The study's folder, with what is already known."""

    def __init__(self, given: argparse.Namespace):
        self.given, self.output = given, given.output
        self.train, self.val = open_pair(given.train, given.val)
        self.output.mkdir(parents=True, exist_ok=True)
        made_by = {"views": given.views, "train": self.train.fingerprint, "val": self.val.fingerprint}
        path = self.output / "study.json"
        if path.exists() and json.loads(path.read_text())["made_by"] != made_by:
            raise SystemExit(f"error: {path} is of another budget or other shards: give another --output")
        about = {"made_by": made_by, "date": date.today().isoformat(), "machine": machine(), "versions": versions()}
        path.write_text(json.dumps(about, indent=1))

    @property
    def vectors(self) -> Path:
        """The teacher's vectors of the training pictures; made at first use."""
        out = self.given.vectors or self.output / "vectors"
        if not (out / "vectors.json").exists():
            options = [option for scale in self.given.scales for option in ("--scale", str(scale))]
            command = ["embed", self.given.teacher, str(self.given.train), str(out), "--weights", "packaged"]
            command += ["--regions", self.given.regions, *options]
            subprocess.run([sys.executable, "-m", "vice.evaluate.cli", *command], check=True)
        return out

    def config(self, row: str, seed: int) -> TrainConfig:
        """Settings of a run: as many epochs as the budget has views."""
        changes = [f"teacher={self.vectors}", f"views.regions={self.given.regions}", f"seed={seed}", *self.given.set]
        changes += [*ROWS[row], "pictures_every=0", "keep_checkpoints=9"]
        first = load_config("cpu-distil", changes)
        num_steps = self.given.views // (first.global_batch * first.views.num_views)
        epochs = num_steps * first.global_batch / len(self.train)
        every = max(1, -(-num_steps // 4))
        return load_config("cpu-distil", [*changes, f"epochs={epochs}", f"checkpoint_every={every}"])

    def finish(self, row: str, seed: int) -> None:
        """Train and evaluate a row with a seed, unless that was done; the first one brings the baselines."""
        path = self.output / "results" / f"{row.replace(' ', '-')}-seed{seed}.json"
        if path.exists():
            return
        run_dir = self.output / "runs" / path.stem
        config = self.config(row, seed).model_copy(update={"precision": "fp32"})
        open_run(run_dir, config)
        train(config, Shards(self.given.train), run_dir, Process(0, 1, torch.device("cpu")))
        result = {"seed": seed, "row": row, **_speed(run_dir)}
        result["scores"] = self.scores(run_dir / "checkpoints" / "last.pt", path.stem)["trained"]
        _write(path, result)

    def baselines(self, row: str, seed: int) -> None:
        """Evaluate what a finished run started from, and colour with position."""
        path = self.output / "results" / "baselines.json"
        if not path.exists():
            last = self.output / "runs" / f"{row.replace(' ', '-')}-seed{seed}" / "checkpoints" / "last.pt"
            _write(path, self.scores(last, "baselines", baselines=True))

    def curve(self, row: str, seed: int) -> None:
        """Evaluate a finished run's checkpoints on the way."""
        run = f"{row.replace(' ', '-')}-seed{seed}"
        for checkpoint in sorted((self.output / "runs" / run / "checkpoints").glob("step-*.pt"))[:-1]:
            path = self.output / "results" / f"curve-{run}-{checkpoint.stem}.json"
            if not path.exists():
                _write(path, self.scores(checkpoint, path.stem)["trained"])

    def scores(self, checkpoint: Path, name: str, *, baselines: bool = False) -> dict[str, Any]:
        """Mean IoU in percent by encoder, evaluator and condition."""
        started = time.perf_counter()
        opened = open_encoder(str(checkpoint), device=torch.device("cpu"), untrained=baselines)
        compared = [one for one in opened.compared if (one.name != "trained") == baselines and one.name != "colour"]
        prepared = prepare(compared, self.train, short_side=None)
        encoders = [one.encoder for one in prepared]
        drawing = Drawing(pixels_per_picture=self.given.pixels)
        found: dict[str, Any] = {encoder.name: {} for encoder in encoders}
        for penalty in PENALTIES:
            setup = Setup(self.train, self.val, self.output / "evaluations" / f"{name}-{penalty:g}")
            evaluators = [LinearEvaluator(setup, drawing=drawing, recipe=ProbeSettings(l2=penalty))]
            if penalty == PENALTIES[0]:
                evaluators += [
                    ClusterEvaluator(setup, num_clusters=[NUM_CLUSTERS], drawing=drawing, kmeans=KMeansSettings()),
                    NeighborEvaluator(setup, settings=NeighborSettings(memory_size=5_000)),
                ]
            for entry, evaluation in run_evaluators(evaluators, encoders, setup).items():
                for encoder, by_condition in evaluation.encoders.items():
                    key = f"linear {penalty:g}" if entry == "linear" else entry
                    found[encoder][key] = {at: round(100 * by_condition[at].miou, 2) for at in CONDITIONS}
        print(f"{name}: evaluated in {time.perf_counter() - started:.0f} s", flush=True)
        return found

    def table(self) -> str:
        """All that is known, in Markdown; mean (smallest to largest) over seeds."""
        columns = [f"linear {penalty:g}" for penalty in PENALTIES] + [CLUSTER, "neighbors"]
        head = ["", "seeds", *columns, "views/s", "minutes"]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        results = [json.loads(path.read_text()) for path in sorted((self.output / "results").glob("*-seed*.json"))]
        for row in ROWS:
            of_row = [result for result in results if result.get("row") == row]
            if of_row:
                cells = [_cell([result["scores"].get(column) for result in of_row]) for column in columns]
                cost = [_spread([result[name] for result in of_row]) for name in ("views_per_second", "minutes")]
                lines.append(f"| {row} | {len(of_row)} | {' | '.join([*cells, *cost])} |")
        baselines = self.output / "results" / "baselines.json"
        for name, scores in json.loads(baselines.read_text()).items() if baselines.exists() else []:
            lines.append(f"| {name} | – | {' | '.join(_cell([scores.get(column)]) for column in columns)} | – | – |")
        for path in sorted((self.output / "results").glob("curve-*.json")):
            scores = json.loads(path.read_text())
            lines.append(f"| {path.stem} | – | {' | '.join(_cell([scores.get(of)]) for of in columns)} | – | – |")
        return "\n".join(lines) + "\n"


def _speed(run_dir: Path) -> dict[str, float]:
    """Views per second and minutes of a whole run, whatever interrupted it: from the lines of its metrics."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    seen = [0, *(line["views_seen"] for line in lines)]
    seconds = sum((b - a) / line["views_per_second"] for a, b, line in zip(seen, seen[1:], lines, strict=False))
    return {"views_per_second": round(seen[-1] / seconds, 1), "minutes": round(seconds / 60, 1)}


def _cell(scores: Sequence[dict[str, float] | None]) -> str:
    """Clean / changed light."""
    known = [score for score in scores if score]
    return " / ".join(_spread([score[at] for score in known]) for at in CONDITIONS) if known else "–"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f}–{max(values):.1f})"


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1))
    temporary.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="labelled shards to train and fit on")
    parser.add_argument("--val", type=Path, required=True, help="labelled shards to score")
    parser.add_argument("--output", type=Path, required=True, help="the study's folder")
    parser.add_argument("--regions", default="slic:20", help="layer that is trained on")
    parser.add_argument("--teacher", default="timm/tf_efficientnet_lite0", help="encoder of the teacher's vectors")
    parser.add_argument("--vectors", type=Path, help="vectors that are there already")
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 2], help="sizes at which the teacher looks")
    parser.add_argument("--views", type=int, default=8000, help="views that every run sees")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=["clusters"])
    parser.add_argument("--pixels", type=int, default=200, help="per training picture, for probes and clusters")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of all rows")
    parser.add_argument("--curve", action="store_true", help="also evaluate the first seed's run on the way")
    given = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(given)
    for seed in given.seeds:
        for row in given.rows:
            study.finish(row, seed)
            (study.output / "table.md").write_text(study.table())
    study.baselines(given.rows[0], given.seeds[0])
    if given.curve:
        study.curve(given.rows[0], given.seeds[0])
    (study.output / "table.md").write_text(study.table())
    print(study.table())


if __name__ == "__main__":
    main()

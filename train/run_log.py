"""What one sees of a run: a live line, `metrics.jsonl` and TensorBoard; written by the first process only."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from vice.train.distributed import sum_over_processes

METRICS_FILE = "metrics.jsonl"


class Meter:
    """Sums over the steps since the last line; they stay on the device until they are asked for."""

    def __init__(self, num_concepts: int, device: torch.device):
        self.num_concepts, self._device = num_concepts, device
        self._clear()

    def add(self, loss: Tensor, assigned: Tensor, num_regions: Tensor, wait: float, num_views: int) -> None:
        """Count one step.

        Args:
            loss: of this process.
            assigned: [b, k] assignments of its regions.
            num_regions: [n] usable regions of its pictures.
            wait: seconds spent waiting for the batch.
            num_views: views of all processes.
        """
        numbers = [loss.detach(), num_regions.sum(), (num_regions == 0).sum(), torch.tensor(len(num_regions)), 1.0]
        self._sums += torch.stack([torch.as_tensor(number, device=self._device).double() for number in numbers])
        self._usage += torch.bincount(assigned.argmax(1), minlength=self.num_concepts)
        self._wait += wait
        self._views += num_views

    def line(self) -> dict[str, float]:
        """Means over all processes since the last line; all processes call it."""
        loss, regions, without, pictures, steps = sum_over_processes(self._sums).tolist()
        usage = sum_over_processes(self._usage).double()
        share = usage / usage.sum().clamp_min(1)
        entropy = float(-(share * share.clamp_min(1e-12).log()).sum())
        seconds = time.perf_counter() - self._since
        line = {
            "loss": loss / steps,
            "ln_k": math.log(self.num_concepts),
            "concepts_used": math.exp(entropy),
            "dead_concepts": int((usage == 0).sum()),
            "regions_per_picture": regions / pictures,
            "pictures_without_regions": without / pictures,
            "views_per_second": self._views / seconds,
            "data_wait": self._wait / seconds,
        }
        self._clear()
        return line

    def _clear(self) -> None:
        self._sums = torch.zeros(5, dtype=torch.float64, device=self._device)
        self._usage = torch.zeros(self.num_concepts, dtype=torch.int64, device=self._device)
        self._wait, self._views, self._since = 0.0, 0, time.perf_counter()


class RunLog:
    """The first process's record of a run.

    Args:
        run_dir: where metrics and TensorBoard files go.
        num_steps: of the whole run.
        first_step: steps already done; later lines of an interrupted run are cut off.
    """

    def __init__(self, run_dir: Path, num_steps: int, first_step: int):
        self._path = run_dir / METRICS_FILE
        _keep_lines_until(self._path, first_step)
        self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first_step)
        self._progress = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task("train", total=num_steps, completed=first_step, status="")

    def __enter__(self) -> RunLog:
        # a bar in a file is noise: there the lines of metrics.jsonl are what one reads
        if self._progress.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()
        self._board.close()

    def advance(self) -> None:
        """One step is done."""
        self._progress.advance(self._task)

    def write(self, step: int, line: dict[str, Any]) -> None:
        """Write one line of metrics."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **line}) + "\n")
        for name, value in line.items():
            self._board.add_scalar(name, value, step)
        status = (
            f"loss {line['loss']:.3f} (ln K {line['ln_k']:.2f})  concepts {line['concepts_used']:.0f}"
            f"  {line['views_per_second']:.0f} views/s  waiting {line['data_wait']:.0%}"
        )
        self._progress.update(self._task, status=status)


def _keep_lines_until(path: Path, step: int) -> None:
    """Drop lines after the checkpoint that a run goes on from, and a last line that was cut by a kill."""
    if not path.exists():
        return
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if line["step"] <= step:
            kept.append(text + "\n")
    aside = path.with_suffix(".tmp")
    aside.write_text("".join(kept), encoding="utf-8")
    aside.rename(path)

"""What one sees of a run: a live line, `metrics.jsonl` and TensorBoard; written by the first process only."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text
from torch.utils.tensorboard import SummaryWriter

from vice.train.config import TrainConfig
from vice.train.records.collapse import CollapseWatch

METRICS_FILE = "metrics.jsonl"
PICTURE_FOLDER = "pictures"
PLAIN_SECONDS = 60.0
"""Between lines where the output is no terminal, as in the log of a cluster's job."""
_PACE_LINES = 20
"""Lines whose mean pace gives the time left: the first step alone may take as long as a hundred others."""


class RunLog:
    """The first process's record of a run.

    Args:
        run_dir: where metrics, pictures and TensorBoard files go.
        config: of the run.
        num_steps: of the whole run.
        first_step: steps already done; later lines of an interrupted run are cut off.
        console: where the live line goes.
        clock: seconds that go on.
    """

    def __init__(
        self,
        run_dir: Path,
        config: TrainConfig,
        num_steps: int,
        first_step: int,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._run_dir, self._num_steps, self._clock = run_dir, num_steps, clock
        self._watch = CollapseWatch(config, num_steps)
        for line in _keep_lines_until(run_dir / METRICS_FILE, first_step):
            # what was said before the run was interrupted is not said again
            self._watch.see(line["step"], line)
        self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first_step)
        self._paces = deque([(clock(), first_step)], maxlen=_PACE_LINES)
        self._console = console or Console()
        self._progress = Progress(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._task = self._progress.add_task("train", total=num_steps, completed=first_step, left="")
        self._numbers = ["the first line of numbers comes soon"]
        self._live = Live(get_renderable=self._block, console=self._console)
        self._printed = -float("inf")

    def __enter__(self) -> RunLog:
        # a bar in a file is noise: there a plain line is printed now and then
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_) -> None:
        self._live.stop()
        self._board.close()

    def advance(self) -> None:
        """One step is done."""
        self._progress.advance(self._task)

    def write(self, step: int, line: dict[str, Any]) -> None:
        """Write one line of metrics, with the time left and, where there is reason, a warning.

        Args:
            step: steps done.
            line: of `Meter.line`, with `learning_rate` and `views_seen`.
        """
        line = {**line, "eta_seconds": self._time_left(step)}
        warnings = self._watch.see(step, line)
        if warnings:
            line["warning"] = "; ".join(warnings)
        with (self._run_dir / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **line}) + "\n")
        for name, value in line.items():
            if isinstance(value, int | float):
                self._board.add_scalar(name, value, step)
        for warning in warnings:
            self._board.add_text("warning", warning, step)
        self._show(step, line, warnings)

    def add_picture(self, step: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Put an RGB picture into TensorBoard and into the run's folder of pictures."""
        self._board.add_image("regions", picture, step, dataformats="HWC")
        folder = self._run_dir / PICTURE_FOLDER
        folder.mkdir(exist_ok=True)
        _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        (folder / f"step-{step:08d}.png").write_bytes(data.tobytes())

    def _block(self) -> Group:
        """What is live, for the terminal's width of this moment."""
        rows = fitted(self._numbers, self._console.width - 2)
        return Group(self._progress, Text("\n".join(f"  {row}" for row in rows)))

    def _time_left(self, step: int) -> float:
        """Seconds to the last step, at the pace of the last lines."""
        now = self._clock()
        since, first = self._paces[0]
        self._paces.append((now, step))
        return (now - since) / max(step - first, 1) * (self._num_steps - step)

    def _show(self, step: int, line: dict[str, Any], warnings: list[str]) -> None:
        left = _duration(line["eta_seconds"])
        rows = self._numbers = status(line)
        self._progress.update(self._task, left=f"{left} left")
        due = warnings or step == self._num_steps or self._clock() - self._printed >= PLAIN_SECONDS
        if not self._console.is_terminal and due:
            self._printed = self._clock()
            self._say(" | ".join([f"step {step}/{self._num_steps} ({left} left)", *rows]))
        for warning in warnings:
            self._say(f"warning at step {step}: {warning}", style="bold yellow")

    def _say(self, text: str, style: str | None = None) -> None:
        """A line of its own: wrapped on a terminal, whole in a file."""
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=not self._console.is_terminal)


def status(line: dict[str, Any]) -> list[str]:
    """A line's numbers as two rows for a reader: what is learned, and what it takes; each fits into 98 columns."""
    spread, rank = (
        "-" if line[name] is None else f"{line[name]:.2g}" for name in ("embedding_spread", "effective_rank")
    )
    terms = {name.removeprefix("loss/"): value for name, value in line.items() if name.startswith("loss/")}
    guessing = "" if line["ln_k"] is None else f" (ln K {line['ln_k']:.2f})"
    learned = [f"loss {line['loss']:.3f}{guessing}"]
    if len(terms) > 1:
        learned += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in terms.items()]
    if line["ln_k"] is not None:
        used = f"{line['concepts_used']:.0f} of {math.exp(line['ln_k']):.0f}"
        learned += [f"concepts {used}, {line['dead_concepts']} dead"]
    learned += [f"spread {spread}", f"rank {rank}", f"lr {line['learning_rate']:.2g}"]
    takes = [
        f"{line['regions_per_view']:.0f} regions/view",
        f"masked {line['masked_ratio']:.0%}",
        f"{line['images_per_second']:.1f} images/s",
        f"{line['views_per_second']:.1f} views/s",
        f"waiting {line['data_wait']:.0%}",
        f"memory {line['memory_gib']:.1f} GiB",
    ]
    return ["  ".join(learned), "  ".join(takes)]


def fitted(rows: list[str], width: int) -> list[str]:
    """Rows as they are where they fit; else their numbers one after the other, broken between two of them."""
    if all(len(row) <= width for row in rows):
        return rows
    lines = [""]
    for number in "  ".join(rows).split("  "):
        longer = f"{lines[-1]}  {number}".strip()
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(number)
    return lines


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _keep_lines_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop lines after the checkpoint that a run goes on from, and a last line that was cut by a kill; the others."""
    if not path.exists():
        return []
    kept, lines = [], []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if line["step"] <= step:
            kept.append(text + "\n")
            lines.append(line)
    aside = path.with_suffix(".tmp")
    aside.write_text("".join(kept), encoding="utf-8")
    aside.rename(path)
    return lines

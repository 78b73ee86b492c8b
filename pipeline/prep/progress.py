"""Progress in pictures: rate, rejected, time left; a bar in a terminal, a line per minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_SECONDS_PER_LINE = 60


class _Rate(ProgressColumn):
    """Pictures per second over the last half minute."""

    def render(self, task: Task) -> Text:
        """The rate, blank until there is one."""
        return Text("" if task.speed is None else f"{task.speed:.1f} pictures/s", style="cyan")


class PictureProgress:
    """The bar or lines of a job on standard error, as a context manager.

    Args:
        total: number of pictures of the whole job.
        done: how many an earlier run made.
        rejected: how many of those it rejected.
        clock: seconds; the lines follow it.
    """

    def __init__(self, total: int, done: int, rejected: int = 0, *, clock: Callable[[], float] = time.monotonic):
        console = Console(stderr=True)
        columns = (
            TextColumn("sharding"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("{task.fields[rejected]} rejected"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("sharding", total=total, completed=done, rejected=rejected)
        self._rejected = rejected
        self._clock, self._is_terminal, self._started_with = clock, console.is_terminal, done
        self._started = self._printed = clock()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, num_inputs: int, num_rejected: int) -> None:
        """Some more inputs are made, of which some were rejected."""
        self._rejected += num_rejected
        self._bar.update(self._task, advance=num_inputs, rejected=self._rejected)
        if not self._is_terminal and self._clock() - self._printed >= _SECONDS_PER_LINE:
            self._printed = self._clock()
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        """The state of the job: `sharding: 1,200 of 5,000 (24 %), 3 rejected, 40.0 pictures/s, 0:01:35 left`."""
        task = self._bar.tasks[0]
        done, total = int(task.completed), int(task.total)
        rate = (done - self._started_with) / max(self._printed - self._started, 1e-9)
        left = timedelta(seconds=round((total - done) / rate)) if rate else "?"
        share = f"{done:,} of {total:,} ({done / total:.0%})"
        return f"sharding: {share}, {self._rejected:,} rejected, {rate:.1f} pictures/s, {left} left"

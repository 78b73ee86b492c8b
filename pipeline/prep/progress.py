"""A progress bar in pictures: rate, rejected, time left; silent where standard error is no terminal."""

from __future__ import annotations

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


class _Rate(ProgressColumn):
    """Pictures per second over the last half minute."""

    def render(self, task: Task) -> Text:
        """The rate, blank until there is one."""
        return Text("" if task.speed is None else f"{task.speed:.1f} pictures/s", style="cyan")


class PictureProgress:
    """The bar of a job, as a context manager.

    Args:
        total: number of pictures of the whole job.
        done: how many an earlier run made.
        rejected: how many of those it rejected.
    """

    def __init__(self, total: int, done: int, rejected: int = 0):
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

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, num_inputs: int, num_rejected: int) -> None:
        """Some more inputs are made, of which some were rejected."""
        self._rejected += num_rejected
        self._bar.update(self._task, advance=num_inputs, rejected=self._rejected)

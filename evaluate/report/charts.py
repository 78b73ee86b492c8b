"""The loss curve as lines and ticks in SVG coordinates; the report's template draws them in the page's colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vice.data_specs.results import TrainingCurve

WIDTH, HEIGHT = 800, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 36
"""Margins round the plot, in units of the SVG's view box."""


class Tick(NamedTuple):
    """A mark on an axis."""

    place: float
    text: str


class Line(NamedTuple):
    """A curve as SVG's `points`."""

    name: str
    points: str


class Chart(NamedTuple):
    """Loss by step, in units of a WIDTH × HEIGHT view box."""

    lines: list[Line]
    levels: list[Tick]
    """Each ln K."""
    across: list[Tick]
    up: list[Tick]


def loss_chart(curves: Mapping[str, TrainingCurve]) -> Chart | None:
    """Lay out the loss curves of one or several runs with a level at each ln K; None without curves.

    Args:
        curves: by the run's name.
    """
    if not curves:
        return None
    levels = sorted({curve.ln_num_concepts for curve in curves.values() if curve.ln_num_concepts is not None})
    drawn = {name: (curve.steps, losses) for run, curve in curves.items() for name, losses in _drawn(run, curve)}
    heights = [*levels, *(loss for _, losses in drawn.values() for loss in losses)]
    low, high = min(heights), max(heights)
    margin = 0.08 * (high - low) or 1.0
    low, high = low - margin, high + margin
    last = max(1, *(curve.steps[-1] for curve in curves.values()))

    def x(step: float) -> float:
        return round(LEFT + step / last * (WIDTH - LEFT - RIGHT), 1)

    def y(loss: float) -> float:
        return round(TOP + (high - loss) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    return Chart(
        lines=[
            Line(
                name,
                " ".join(f"{x(step)},{y(loss)}" for step, loss in zip(map(float, steps), losses, strict=True)),
            )
            for name, (steps, losses) in drawn.items()
        ],
        levels=[Tick(y(level), f"ln K = {level:.2f}") for level in levels],
        across=[Tick(x(step), f"{step:,.0f}") for step in round_values(0.0, float(last), at_most=7)],
        up=[Tick(y(loss), f"{loss:g}") for loss in round_values(low, high, at_most=6)],
    )


def _drawn(run: str, curve: TrainingCurve) -> Iterator[tuple[str, list[float]]]:
    """A run's lines by name: its loss, and the terms where there are several."""
    yield run, curve.loss
    if len(curve.terms) > 1:
        for name, losses in curve.terms.items():
            yield f"{run}: {name.replace('_', ' ')}", losses


def round_values(low: float, high: float, *, at_most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high, as many as possible but no more than `at_most`."""
    power = 10 ** math.floor(math.log10((high - low) / at_most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first + 1 <= at_most:
            break
    # A product of whole numbers and a rounding shows 0.3 as 0.3, not as 0.30000000000000004.
    return [round(float(number * step), 10) for number in range(first, last + 1)]

"""What the time of the project's readers goes to, from differences between settings; part of `benchmarks/loader.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from loader_ways import BATCH, NUM_VIEWS, Task, median_seconds, pinned, reader

CALM = {
    "mask_share": 0,
    "appearance": {"jitter_probability": 0, "grey_probability": 0, "blur_probability": 0},
}
GRID, TINY = {"regions": "grid:20"}, {"size": 32}
VARIANTS: dict[str, dict[str, Any]] = {
    "all on": {},
    "no blur": {"appearance": {"blur_probability": 0}},
    "no colour": {"appearance": {"jitter_probability": 0, "grey_probability": 0}},
    "no masking": {"mask_share": 0},
    "tiny": CALM | TINY,
    "tiny grid": CALM | GRID | TINY,
}
"""Settings whose differences tell what the time goes to."""

WARM_UP = 3
"""Batches made before the clock runs."""


def split(task: Task) -> dict[str, float]:
    """Milliseconds of a core that a reader spends a view on each thing, from differences between settings.

    What happens once a picture (decoding) is told from what happens once a view by views of next to no pixels.
    """
    pinned(task.cores)
    num_batches = _batches_in(task)
    whole, read = {}, {}  # milliseconds a picture
    for name, changed in VARIANTS.items():
        whole[name] = _cpu_seconds(reader(task, **changed), num_batches) * 1e3
        read[name] = _reading(task, changed) * 1e3
    made = {name: whole[name] - read[name] for name in VARIANTS}
    jpeg, png = made["tiny grid"], made["tiny"] - made["tiny grid"]
    parts = {
        "reading and planning": read["all on"],
        "JPEG decoding": jpeg,
        "region PNG decoding": png,
        "colour": made["all on"] - made["no colour"],
        "blur": made["all on"] - made["no blur"],
        "masking": made["all on"] - made["no masking"],
    }
    parts["resize, normalisation, crops and numbering of regions"] = whole["all on"] - sum(parts.values())
    return {name: part / NUM_VIEWS for name, part in parts.items()}


def _batches_in(task: Task) -> int:
    """How many batches take the task's time; the same ones are then made with all settings."""
    batches = reader(task)
    for _ in range(WARM_UP):
        next(batches)
    start = time.perf_counter()
    next(batches)
    return max(2, round(task.seconds / (time.perf_counter() - start)))


def _cpu_seconds(batches: Iterator, num_batches: int) -> float:
    """CPU time of this process for each picture."""
    for _ in range(WARM_UP):
        next(batches)
    start = time.process_time()
    for _ in range(num_batches):
        next(batches)
    return (time.process_time() - start) / (num_batches * BATCH)


def _reading(task: Task, changed: dict[str, Any]) -> float:
    """Seconds a picture to read its members and plan its views."""
    from vice.pipeline.loader.order import SampleOrder
    from vice.pipeline.loader.settings import ViewSettings
    from vice.pipeline.loader.source import StepSource
    from vice.pipeline.shards import Shards

    shards = Shards(task.source.shards)
    settings = ViewSettings.model_validate({"num_views": NUM_VIEWS, "size": task.size, **changed})
    source = StepSource(shards, SampleOrder(len(shards), global_batch=BATCH, seed=0), settings)
    steps = iter(range(1 << 30))
    return median_seconds(lambda: source.step(next(steps)), 20) / BATCH

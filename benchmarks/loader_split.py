"""What the time of the project's readers goes to, from differences between settings; part of `benchmarks/loader.py`."""

from __future__ import annotations

from typing import Any

from loader_ways import BATCH, NUM_VIEWS, Task, median_seconds, pinned, reader, speed

CALM = {"jitter_probability": 0, "grey_probability": 0, "blur_probability": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "all on": {},
    "no blur": {"appearance": {"blur_probability": 0}},
    "no colour": {"appearance": {"jitter_probability": 0, "grey_probability": 0}},
    "no masking": {"mask_share": 0},
    "2 views": {"num_views": 2},
    "calm grid": {"regions": "grid:20", "mask_share": 0, "appearance": CALM},
    "calm grid, 2 views": {"regions": "grid:20", "mask_share": 0, "appearance": CALM, "num_views": 2},
    "calm": {"mask_share": 0, "appearance": CALM},
    "calm, 2 views": {"mask_share": 0, "appearance": CALM, "num_views": 2},
}
"""Settings whose differences tell what the time goes to."""


def split(task: Task) -> dict[str, float]:
    """Milliseconds of a core that a reader spends a view on each thing, from differences between settings.

    What happens once a picture (decoding) is told from what happens once a view by making 2 views in place of 5.
    """
    pinned(task.cores)
    whole, read = {}, {}  # milliseconds a picture
    for name, changed in VARIANTS.items():
        whole[name] = speed(reader(task, **changed), task)["cpu_ms"]
        read[name] = _reading(task, changed) * 1e3
    made = {name: whole[name] - read[name] for name in VARIANTS}

    def once(few: str, many: str) -> float:
        return (NUM_VIEWS * made[few] - 2 * made[many]) / (NUM_VIEWS - 2)

    jpeg = once("calm grid, 2 views", "calm grid")
    png = once("calm, 2 views", "calm") - jpeg
    parts = {
        "reading and planning": read["all on"],
        "JPEG decoding": jpeg,
        "region PNG decoding": png,
        "colour": made["all on"] - made["no colour"],
        "blur": made["all on"] - made["no blur"],
        "masking": made["all on"] - made["no masking"],
        "region crops, beyond a grid's": made["calm"] - made["calm grid"] - png,
    }
    parts["resize, normalisation, numbering of regions"] = whole["all on"] - sum(parts.values())
    return {name: part / NUM_VIEWS for name, part in parts.items()}


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

"""Whether a step's regions can fill the concepts: assigned evenly, each concept needs one region at least."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vice.data_specs.errors import InputError
from vice.data_specs.regions import grid_cell
from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig


def check_concepts(config: TrainConfig, shards: Shards, *, num_processes: int) -> None:
    """Refuse more concepts than the most regions that a step (with the queues) or, offline, an epoch can have.

    The number of regions is estimated from the first pictures of the manifest, and rather too high than too low.

    Args:
        config: the resolved configuration.
        shards: what is trained on.
        num_processes: each has a queue.

    Raises:
        InputError: names the numbers and the settings.
    """
    wanted, assignment = config.assignment.num_concepts, config.assignment
    of_picture = most_regions(config, shards)
    if assignment.method == "kmeans":
        pictures, queued, what = len(shards), 0, "an epoch"
    else:
        pictures, queued, what = config.global_batch, assignment.queue_length * num_processes, "a step"
    most = of_picture * pictures + queued
    if wanted > most:
        queue = f" and {queued} of the queue" if queued else ""
        raise InputError(
            f"{wanted} concepts cannot be filled by the {most:.0f} regions of {what} ({pictures} pictures of at most "
            f"{of_picture:.0f} in all views{queue})",
            where="assignment.num_concepts",
            hint="lower it, or raise global_batch or assignment.queue_length, or take smaller views.regions",
        )


def most_regions(config: TrainConfig, shards: Shards) -> float:
    """Mutual regions of a picture, as a mean of upper bounds: those that its largest crop touches."""
    cell = grid_cell(config.views.regions)
    layer = None if cell else shards.layer_named(config.views.regions)
    first = next(shards.manifest_batches(["width", "height", "num_regions"]), None)
    if first is None or not len(first):
        return 0.0
    sizes = np.stack([first["width"].to_numpy(), first["height"].to_numpy()]).astype(float)
    area = sizes.prod(0)
    total = (np.ceil(sizes / cell)).prod(0) if cell else _stored(first["num_regions"].to_pylist(), layer)
    side = np.minimum(config.views.resize[1] * config.views.size, sizes.min(0))
    # regions that lie across the crop's edge are within one region's side of it
    touched = (side + 2 * np.sqrt(area / total)) ** 2 / area
    return float(np.minimum(total * np.minimum(touched, 1), config.views.max_regions).mean())


def _stored(rows: Iterable[list[tuple[str, int]]], layer: str) -> np.ndarray:
    """Regions of a stored layer by picture."""
    return np.array([dict(row)[layer] for row in rows], float)

"""How many regions a step can have, to refuse more concepts than regions before any process starts; without torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from vice.data_specs.errors import InputError
from vice.data_specs.regions import grid_cell

if TYPE_CHECKING:
    from vice.pipeline.shards import Shards
    from vice.train.config import TrainConfig


def check_num_concepts(config: TrainConfig, num_regions: float, *, of: str, hint: str) -> None:
    """Refuse more concepts than regions.

    Args:
        config: the resolved configuration.
        num_regions: the most that are assigned together.
        of: what they are the regions of, as the message says it.
        hint: what to change.

    Raises:
        InputError: names the numbers.
    """
    num_concepts = config.assignment.num_concepts
    if num_concepts > num_regions:
        what = f"{num_concepts} concepts cannot be filled by the {num_regions:.0f} regions of {of}"
        raise InputError(what, where="assignment.num_concepts", hint=hint)


def regions_per_picture(config: TrainConfig, shards: Shards) -> float:
    """Mutual regions of a picture, as a mean of upper bounds: those that its largest crop touches.

    Estimated from the first pictures of the manifest, and rather too high than too low.
    """
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

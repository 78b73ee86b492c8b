"""What a step needs from the shards before any pixel is decoded: member bytes and the plan of every sample."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float16

from vice.data_specs.regions import grid_cell
from vice.data_specs.shard_format import DENSITY_MEMBER, picture_member
from vice.pipeline.loader.order import SampleOrder, Visit
from vice.pipeline.loader.plan import ViewPlan, plan_views
from vice.pipeline.loader.prefetch import Prefetcher
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.region_vectors import RegionVectors
from vice.pipeline.shards import Shards


class PlannedSample(NamedTuple):
    """One sample of a step."""

    number: int
    """Its number in the shards."""
    picture: bytes
    regions: bytes | None
    """16-bit PNG; None where the loader numbers grid cells itself."""
    plan: ViewPlan
    teacher: Float16[np.ndarray, "r t"] | None = None
    """The teacher's vectors of all regions of the sample, by their stored ids."""


class StepSource:
    """Reads and plans the samples of any step.

    Args:
        shards: where samples come from.
        order: which samples a step has.
        settings: how views are drawn.
        prefetcher: fetches the shards of coming steps, where there is a cache.
        teacher: region vectors to deliver with the regions.

    Raises:
        InputError: the shards have no such region layer, or the teacher's vectors are of other shards or another layer.
    """

    def __init__(
        self,
        shards: Shards,
        order: SampleOrder,
        settings: ViewSettings,
        prefetcher: Prefetcher | None = None,
        teacher: RegionVectors | None = None,
    ):
        self.shards, self.order, self.settings = shards, order, settings
        self._prefetcher, self._teacher = prefetcher, teacher
        if teacher is not None:
            teacher.check(shards, settings.regions)
        self._members = [picture_member(shards.record.settings), DENSITY_MEMBER]
        if grid_cell(settings.regions) is None:
            self._members.append(f"{shards.layer_named(settings.regions)}.png")

    def steps(self, first_step: int, every: int = 1) -> Iterator[list[PlannedSample]]:
        """This process's samples of `first_step`, `first_step + every`, ... without end; several threads may read."""
        return map(self.step, count(first_step, every))

    def step(self, step: int) -> list[PlannedSample]:
        """The samples of this process in a step."""
        if self._prefetcher is not None:
            self._prefetcher.at(step)
        return [self._planned(visit) for visit in self.order.visits(step)]

    def _planned(self, visit: Visit) -> PlannedSample:
        picture, density, *regions = self.shards.read(visit.sample, self._members)
        width, height = self.shards.sizes[visit.sample]
        plan = plan_views(
            int(width),
            int(height),
            self.shards.decode(density, cv2.IMREAD_UNCHANGED, visit.sample),
            self.shards.record.settings.density_stride,
            settings=self.settings,
            seed=self.order.seed,
            visit=visit,
        )
        teacher = None if self._teacher is None else self._teacher.of_sample(visit.sample)
        return PlannedSample(visit.sample, picture, regions[0] if regions else None, plan, teacher)

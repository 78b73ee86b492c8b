"""The plain reader: NumPy views collated with torch. Slow and obvious; the DALI reader is held against it."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch

from vice.data_specs.regions import grid_cell
from vice.pipeline.loader.batch import FLOAT32, Batch, BatchFormat
from vice.pipeline.loader.grid import grid_ids
from vice.pipeline.loader.memory import BatchMemory
from vice.pipeline.loader.reference import Views, make_views
from vice.pipeline.loader.source import PlannedSample, StepSource
from vice.pipeline.loader.teacher import teacher_rows


class PlainReader:
    """Makes batches with NumPy and OpenCV, then moves them to the device."""

    def __init__(self, source: StepSource, device: torch.device, batch_format: BatchFormat = FLOAT32):
        self._source, self._device, self._memory = source, device, BatchMemory(batch_format, device)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches of `first_step`, `first_step + 1`, ... without end."""
        for samples in self._source.steps(first_step):
            yield self._collate([self._views(sample) for sample in samples], samples)

    def _views(self, sample: PlannedSample) -> Views:
        settings, shards = self._source.settings, self._source.shards
        picture = shards.decode(sample.picture, cv2.IMREAD_COLOR_RGB, sample.number)
        if sample.regions is None:
            ids = grid_ids(picture.shape[1], picture.shape[0], grid_cell(settings.regions))
        else:
            ids = shards.decode(sample.regions, cv2.IMREAD_UNCHANGED, sample.number)
        return make_views(picture, ids, sample.plan, settings)

    def _collate(self, views: list[Views], samples: list[PlannedSample]) -> Batch:
        num_regions = torch.tensor([len(view.region_ids) for view in views])
        region_ids = torch.full((len(views), max(int(num_regions.max()), 1)), -1, dtype=torch.int64)
        for row, view in zip(region_ids, views, strict=True):
            row[: len(view.region_ids)] = torch.from_numpy(view.region_ids)

        def stack(field: str) -> torch.Tensor:
            arrays = [getattr(view, field) for view in views]
            return torch.from_numpy(np.stack(arrays, axis=1)).to(self._device)

        images = self._memory.images(self._source.settings.num_views, len(views), self._source.settings.size)
        return Batch(
            images=images.copy_(stack("images")),
            regions=stack("regions"),
            num_regions=num_regions.to(self._device),
            region_ids=region_ids.to(self._device),
            masked=stack("masked"),
            teacher=teacher_rows([sample.teacher for sample in samples], region_ids, self._device),
            keys=[self._source.shards.keys[sample.number] for sample in samples],
        )

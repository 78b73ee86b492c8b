"""The DALI reader: a thread reads and plans ahead, DALI makes the views, torch numbers and masks their regions."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import cv2
import numpy as np
import torch

from vice.data_specs.errors import WorkError
from vice.data_specs.regions import grid_cell
from vice.pipeline.loader.batch import Batch
from vice.pipeline.loader.dali_graph import plan_arrays, views_graph
from vice.pipeline.loader.grid import grid_views
from vice.pipeline.loader.region_ops import count_pixels, fill_with_noise, masked_pixels, mutual_regions
from vice.pipeline.loader.source import PlannedSample, StepSource

STEPS_AHEAD = 2
"""Batches that DALI makes ahead of the one in use."""


class DaliReader:
    """Makes batches with the DALI graph.

    Args:
        source: reads and plans samples.
        device: a CUDA device, or the CPU (the same graph with `device_id=None`).
        num_threads: DALI's worker threads.
    """

    def __init__(self, source: StepSource, device: torch.device, num_threads: int):
        self._source, self._device, self._num_threads = source, device, num_threads
        self._cell = grid_cell(source.settings.regions)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches of `first_step`, `first_step + 1`, ... without end.

        Raises:
            WorkError: a sample cannot be read or decoded; names shard and key.
        """
        with _ReadAhead(self._source, first_step) as ahead:
            graph = self._build(ahead)
            while True:
                try:
                    outputs = graph.run()
                except RuntimeError as error:
                    raise self._culprit(ahead, error) from error
                yield self._batch([_to_torch(output) for output in outputs], ahead.pop_planned())

    def _build(self, ahead: _ReadAhead):
        on_gpu = self._device.type == "cuda"
        order, settings = self._source.order, self._source.settings
        graph = views_graph(
            ahead.feed,
            num_views=settings.num_views,
            size=settings.size,
            on_gpu=on_gpu,
            stored_regions=self._cell is None,
            batch_size=order.global_batch // order.world_size,
            num_threads=self._num_threads,
            device_id=(self._device.index or 0) if on_gpu else None,
            prefetch_queue_depth=STEPS_AHEAD,
        )
        graph.build()
        return graph

    def _batch(self, outputs: list[torch.Tensor], samples: list[PlannedSample]) -> Batch:
        settings = self._source.settings
        images = torch.stack(outputs[: settings.num_views])
        stored = self._cell is None
        ids = torch.stack(outputs[settings.num_views :]).squeeze(-1) if stored else self._grid(samples)
        counts = count_pixels(ids)
        seeds = self._stacked([sample.plan.seed for sample in samples])
        shares = self._stacked([sample.plan.mask_share for sample in samples])
        masked = masked_pixels(ids, counts, shares, seeds[:-1])
        mutual = mutual_regions(
            ids, counts, seeds[-1], max_regions=settings.max_regions, min_pixels=settings.min_region_pixels
        )
        keys = [self._source.shards.keys[sample.number] for sample in samples]
        return Batch(fill_with_noise(images, masked, seeds[:-1]), *mutual, masked, keys)

    def _grid(self, samples: list[PlannedSample]) -> torch.Tensor:
        widths = self._source.shards.sizes[:, 0]
        size = self._source.settings.size
        maps = [grid_views(int(widths[sample.number]), self._cell, sample.plan, size) for sample in samples]
        return self._stacked(maps)

    def _stacked(self, arrays: list[np.ndarray]) -> torch.Tensor:
        """Arrays of N samples with the views first as one tensor [m, n, ...] on the device."""
        return torch.from_numpy(np.stack(arrays, axis=1)).to(self._device, non_blocking=True)

    def _culprit(self, ahead: _ReadAhead, error: RuntimeError) -> WorkError:
        """DALI does not say which sample failed: try those it works on."""
        shards = self._source.shards
        for sample in ahead.planned():
            for data in (sample.picture, sample.regions):
                try:
                    if data is not None:
                        shards.decode(data, cv2.IMREAD_UNCHANGED, sample.number)
                except WorkError as culprit:
                    return culprit
        return WorkError(f"DALI failed ({str(error).splitlines()[0]})", where=shards.address)


class _ReadAhead:
    """A thread that reads and plans steps ahead of DALI, and remembers the plans of batches that DALI still makes."""

    def __init__(self, source: StepSource, first_step: int):
        self._source, self._next_step = source, first_step
        self._ready: queue.Queue = queue.Queue(maxsize=STEPS_AHEAD)
        self._in_graph: list[list[PlannedSample]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="vice-read-ahead", daemon=True)

    def __enter__(self) -> _ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(timeout=0.05)

    def feed(self) -> tuple[list, ...]:
        """The next step as DALI's external source wants it; an error of the reading thread is raised here."""
        samples = self._ready.get()
        if isinstance(samples, BaseException):
            raise samples
        self._in_graph.append(samples)
        columns = zip(*(self._arrays(sample) for sample in samples), strict=True)
        return tuple(list(column) for column in columns)

    def planned(self) -> list[PlannedSample]:
        """Samples that DALI works on now."""
        return [sample for samples in self._in_graph for sample in samples]

    def pop_planned(self) -> list[PlannedSample]:
        """Samples of the batch that DALI gave last."""
        return self._in_graph.pop(0)

    @staticmethod
    def _arrays(sample: PlannedSample) -> tuple[np.ndarray, ...]:
        encoded = [data for data in (sample.picture, sample.regions) if data is not None]
        return (*(np.frombuffer(data, np.uint8) for data in encoded), *plan_arrays(sample.plan))

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                item = self._source.step(self._next_step)
            except BaseException as error:
                # handed over to the reading side, which raises it
                item = error
            self._next_step += 1
            self._ready.put(item)
            if isinstance(item, BaseException):
                return

    def _drain(self) -> None:
        while not self._ready.empty():
            self._ready.get_nowait()


def _to_torch(output) -> torch.Tensor:
    """A DALI output as a tensor of our own: DALI uses its buffer again."""
    return torch.from_dlpack(output.as_tensor()).clone()

"""The DALI reader: a thread reads and plans ahead, another runs DALI, then numbers and masks regions in torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from itertools import cycle

import cv2
import numpy as np
import torch

from vice.data_specs.errors import WorkError
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.data_specs.regions import grid_cell
from vice.pipeline.loader.batch import FLOAT32, Batch, BatchFormat
from vice.pipeline.loader.dali_graph import plan_arrays, views_graph
from vice.pipeline.loader.grid import grid_lines
from vice.pipeline.loader.memory import BatchMemory
from vice.pipeline.loader.read_ahead import ReadAhead
from vice.pipeline.loader.region_ops import fill_with_noise, view_regions
from vice.pipeline.loader.source import PlannedSample, StepSource
from vice.pipeline.loader.teacher import teacher_rows

STEPS_AHEAD = 2
"""Batches that a graph makes ahead of the one in use."""

MOST_GRAPHS = 4
"""Graphs side by side on the CPU, where DALI runs one operator at a time and shares a batch's few samples out badly."""


class DaliReader:
    """Makes batches with the DALI graph.

    Args:
        source: reads and plans samples.
        device: a CUDA device with its number, or the CPU (the same graph with `device_id=None`).
        num_threads: DALI's worker threads.
        batch_format: of the pictures.
    """

    def __init__(self, source: StepSource, device: torch.device, num_threads: int, batch_format: BatchFormat = FLOAT32):
        self._source, self._device, self._num_threads = source, device, num_threads
        self._format, self._memory = batch_format, BatchMemory(batch_format, device)
        self._cell = grid_cell(source.settings.regions)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches of `first_step`, `first_step + 1`, ... without end.

        Raises:
            WorkError: a sample cannot be read or decoded; names shard and key.
        """
        num_graphs = 1 if self._device.type == "cuda" else min(self._num_threads, MOST_GRAPHS)
        others = torch.get_num_threads()
        graphs = [
            ReadAhead(self._made(first_step + number, num_graphs, others), depth=1, name=f"vice-batches-{number}")
            for number in range(num_graphs)
        ]
        with ExitStack() as stack:
            for graph in graphs:
                stack.callback(graph.close)
            for graph in cycle(graphs):
                batch = next(graph)
                if self._device.type == "cuda":
                    for tensor in batch[:-1]:
                        if tensor is None:
                            continue
                        # made on another stream: its memory must not be given out again before this one is done with it
                        tensor.record_stream(torch.cuda.current_stream(self._device))
                yield batch

    def _made(self, first_step: int, num_graphs: int, torch_threads: int) -> Iterator[Batch]:
        """Batches of `first_step` and every `num_graphs`-th step after it, made by one graph in a thread of its own."""
        on_gpu = self._device.type == "cuda"
        _use_one_thread(torch_threads)
        stream = torch.cuda.Stream(self._device) if on_gpu else None
        with (
            _Feed(self._source, first_step, num_graphs) as feed,
            torch.cuda.stream(stream) if on_gpu else nullcontext(),
        ):
            graph = self._build(feed, num_graphs)
            while True:
                try:
                    outputs = graph.run()
                except RuntimeError as error:
                    raise self._culprit(feed, error) from error
                batch = self._batch(outputs, feed.pop_planned())
                if stream is not None:
                    stream.synchronize()  # DALI uses its outputs' memory again in the next run
                yield batch

    def _build(self, feed: _Feed, num_graphs: int):
        on_gpu = self._device.type == "cuda"
        order, settings = self._source.order, self._source.settings
        graph = views_graph(
            feed,
            num_views=settings.num_views,
            size=settings.size,
            on_gpu=on_gpu,
            stored_regions=self._cell is None,
            layout="HWC" if self._format.channels_last else "CHW",
            batch_size=order.global_batch // order.world_size,
            num_threads=max(1, self._num_threads // num_graphs),
            device_id=self._device.index if on_gpu else None,
            prefetch_queue_depth=STEPS_AHEAD,
        )
        graph.build()
        return graph

    def _batch(self, outputs: tuple, samples: list[PlannedSample]) -> Batch:
        settings = self._source.settings
        views = [torch.from_dlpack(output.as_tensor()) for output in outputs]
        images = self._images(views[: settings.num_views])
        stored = self._cell is None
        ids = torch.stack(views[settings.num_views :]).squeeze(-1) if stored else self._grid(samples)
        seeds = np.stack([sample.plan.seed for sample in samples], axis=1)
        found = view_regions(
            ids,
            self._stacked([sample.plan.mask_share for sample in samples]),
            torch.from_numpy(seeds).to(self._device),
            max_regions=settings.max_regions,
            min_pixels=settings.min_region_pixels,
        )
        if settings.mask_share > 0:
            fill_with_noise(images, found.masked, seeds[:-1])
        keys = [self._source.shards.keys[sample.number] for sample in samples]
        teacher = teacher_rows([sample.teacher for sample in samples], found.region_ids, self._device)
        return Batch(images, found.regions, found.num_regions, found.region_ids, found.masked, teacher, keys)

    def _images(self, views: list[torch.Tensor]) -> torch.Tensor:
        """M views [n, ...] of DALI's, clipped to the picture's range, in memory of our own."""
        images = self._memory.images(len(views), len(views[0]), self._source.settings.size)
        for image, view in zip(images, views, strict=True):
            image.copy_(view.permute(0, 3, 1, 2) if self._format.channels_last else view)
        for channel, (mean, std) in enumerate(zip(IMAGE_MEAN, IMAGE_STD, strict=True)):
            images[:, :, channel].clamp_(-mean / std, (1 - mean) / std)
        return images

    def _grid(self, samples: list[PlannedSample]) -> torch.Tensor:
        widths = self._source.shards.sizes[:, 0]
        size = self._source.settings.size
        lines = [grid_lines(int(widths[sample.number]), self._cell, sample.plan, size) for sample in samples]
        rows, columns = (self._stacked(list(part)) for part in zip(*lines, strict=True))
        return rows[..., None] + columns[..., None, :]

    def _stacked(self, arrays: list[np.ndarray]) -> torch.Tensor:
        """Arrays of N samples with the views first as one tensor [m, n, ...] on the device."""
        return torch.from_numpy(np.stack(arrays, axis=1)).to(self._device)

    def _culprit(self, feed: _Feed, error: RuntimeError) -> WorkError:
        """DALI does not say which sample failed: try those it works on."""
        shards = self._source.shards
        for sample in feed.planned():
            for data in (sample.picture, sample.regions):
                try:
                    if data is not None:
                        shards.decode(data, cv2.IMREAD_UNCHANGED, sample.number)
                except WorkError as culprit:
                    return culprit
        return WorkError(f"DALI failed ({str(error).splitlines()[0]})", where=shards.address)


def _use_one_thread(others: int) -> None:
    """Let torch's operators in this thread use this thread alone: DALI's threads have the cores.

    With a team of OpenMP threads that spin while they wait, two cores make a third of the views.

    Args:
        others: number of threads for all other threads of the process, as before.
    """
    torch.set_num_threads(1)
    # that is also the number of threads to come: it is put back from a thread that keeps nothing of it
    restoring = threading.Thread(target=torch.set_num_threads, args=(others,))
    restoring.start()
    restoring.join()


class _Feed:
    """DALI's external source: steps that a thread reads and plans ahead; remembers the plans that are in the graph."""

    def __init__(self, source: StepSource, first_step: int, every: int):
        self._steps = ReadAhead(source.steps(first_step, every), depth=STEPS_AHEAD, name="vice-read-ahead")
        self._in_graph: list[list[PlannedSample]] = []

    def __enter__(self) -> _Feed:
        return self

    def __exit__(self, *_) -> None:
        self._steps.close()

    def __call__(self) -> tuple[list, ...]:
        """The next step as DALI wants it; an error of the reading thread is raised here."""
        samples = next(self._steps)
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

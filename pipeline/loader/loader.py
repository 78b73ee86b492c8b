"""The view loader: shards to batches of views, by DALI or by the plain reader, resumable at any step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal, Protocol, Self

import torch

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import difference
from vice.pipeline.loader.batch import FLOAT32, Batch, BatchFormat
from vice.pipeline.loader.order import SampleOrder
from vice.pipeline.loader.prefetch import Prefetcher
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.loader.shard_list import ShardList, list_shards
from vice.pipeline.loader.source import StepSource
from vice.pipeline.region_vectors import RegionVectors
from vice.pipeline.shards import Shards

MOST_THREADS = 16
"""Threads of the reader unless asked for: decoding is quicker than any network by then."""


class Reader(Protocol):
    """Makes batches of consecutive steps."""

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches of `first_step`, `first_step + 1`, ... without end."""
        ...


class ViewLoader:
    """Endless iterator over this process's part of every global batch.

    Args:
        shards: a folder of shards.
        views: how views are drawn.
        global_batch: pictures a step, over all processes.
        seed: decides order and views.
        window: shards whose samples are mixed at a time, for shards on slow or remote storage; 0 mixes all samples.
        rank: this process.
        world_size: number of processes.
        device: where batches are made and stay.
        reader: `dali` (GPU or CPU, the same graph) or `plain` (NumPy and OpenCV, on the CPU: the reference).
        num_threads: of the DALI reader; None: one for each core that this process may use, at most MOST_THREADS.
        batch_format: type and memory layout of the pictures.
        teacher: region vectors of these shards and this layer; batches then hold those of their mutual regions.

    Raises:
        InputError: no samples, no such region layer, a batch that the processes cannot share, a negative window, or a
            teacher of other shards or of another layer.
    """

    def __init__(
        self,
        shards: Shards,
        views: ViewSettings,
        *,
        global_batch: int,
        seed: int = 0,
        window: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        reader: Literal["dali", "plain"] = "dali",
        num_threads: int | None = None,
        batch_format: BatchFormat = FLOAT32,
        teacher: RegionVectors | None = None,
    ):
        listed = list_shards(shards) if window else ShardList([], ())
        self.order = SampleOrder(
            len(shards),
            global_batch=global_batch,
            seed=seed,
            rank=rank,
            world_size=world_size,
            window=window,
            shard_sizes=listed.sizes,
        )
        self.step = 0
        self._identity = {
            "shards": shards.fingerprint,
            "global_batch": global_batch,
            "seed": seed,
            "window": window,
            "views": views.model_dump(mode="json"),
        }
        if teacher is not None:
            self._identity["teacher"] = teacher.fingerprint
        source = StepSource(shards, self.order, views, Prefetcher.of(shards, self.order, listed.tars), teacher)
        self._reader = _make_reader(reader, source, _with_index(torch.device(device)), num_threads, batch_format)
        self._batches: Iterator[Batch] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = self._reader.batches(self.step)
        try:
            batch = next(self._batches)
        except BaseException:
            self._batches = None  # asked again, it tries the same step anew
            raise
        self.step += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The next step, and what the data are; the same for every process."""
        return {"step": self.step, **self._identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the state's next sample, on any number of processes that divides the global batch.

        Raises:
            InputError: the state belongs to other data, another batch or other settings; names the difference.
        """
        # states that were saved before there were windows do not name theirs
        state = {"window": 0, **state}
        theirs = {key: state[key] for key in state.keys() & {*self._identity, "teacher"}}
        changed = difference(theirs, self._identity)
        if changed:
            raise InputError("cannot go on with other data or views", where="; ".join(changed), hint="start a new run")
        self.step, self._batches = state["step"], None


def _make_reader(
    name: str, source: StepSource, device: torch.device, num_threads: int | None, batch_format: BatchFormat
) -> Reader:
    if name == "plain":
        from vice.pipeline.loader.plain_reader import PlainReader

        return PlainReader(source, device, batch_format)
    # imported here: a DALI reader is the only thing that needs DALI
    from vice.pipeline.loader.dali_reader import DaliReader

    threads = num_threads or min(len(os.sched_getaffinity(0)), MOST_THREADS)
    return DaliReader(source, device, threads, batch_format)


def _with_index(device: torch.device) -> torch.device:
    """A CUDA device without a number is the present one; the reader's threads have another present one."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device

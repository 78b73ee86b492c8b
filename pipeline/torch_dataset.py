"""Shards as a torch `IterableDataset` of plain samples, for experiments that bring their own model and augmentation.

Which samples come, and in which order, is a function of (seed, epoch, rank) alone; a DataLoader's workers share them
without changing either. Needs torch, which nothing else beside the view loader does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from vice.data_specs.errors import InputError, ViceError, WorkError
from vice.data_specs.shard_format import DENSITY_MEMBER, LABELS_MEMBER, META_MEMBER, picture_member
from vice.pipeline.loader.order import permutation
from vice.pipeline.shards import Shards
from vice.pipeline.storage.local import LocalStorage


class WorkerError(WorkError):
    """A known error of a DataLoader's worker, as one line.

    torch raises a worker's error again by calling its class with the text of the whole traceback: the last line of that
    is ours.
    """

    def __init__(self, what: str, *, where: object = None, hint: str | None = None):
        super().__init__(what.rpartition(f"{WorkerError.__name__}: ")[2], where=where, hint=hint)


class ShardDataset(IterableDataset):
    """Samples of shards as dicts of tensors, shuffled anew every epoch, dealt out to processes and workers.

    A sample has
        `key`       str,
        `number`    int, its place in the shards (`shards[number]` is the same sample),
        `picture`   uint8 [3, h, w], RGB,
        `regions`   dict: layer name (`slic20`) to int32 [h, w], ids 0..R-1,
        `labels`    int64 [h, w], classes or IGNORE (65535), as `cross_entropy(ignore_index=65535)` takes them,
        `density`   uint8 [ceil(h / stride), ceil(w / stride)],
        `meta`      dict, the sample's json member;
    the last three where asked for. Nothing else is read or decoded. Pictures keep their sizes: to collate batches of
    several, `transform` must make them alike. With a DataLoader that has `multiprocessing_context="spawn"`, the
    dataset goes to the workers by pickling, `transform` with it.

    Args:
        shards: where samples come from.
        layers: region layers, as `slic:20` or `slic20`; all that are stored if None, `[]` for none.
        labels: whether to give labels; if None, where the shards have them.
        density: whether to give the content density.
        meta: whether to give the json member.
        transform: called with every sample; what it returns is yielded instead.
        shuffle: another order every epoch; otherwise that of the manifest.
        seed: of the order.
        rank: this process.
        world_size: number of processes. Each sample comes once an epoch in exactly one of them, so that some have one
            sample more than others where the numbers do not divide.
        drop_uneven: leave out the last `len(shards) % world_size` samples of an epoch's order, for processes that must
            all take equally many steps.
        batch_size: that of the DataLoader. Its workers then make whole batches in turns, and the batches are the same
            for any number of workers.

    Raises:
        InputError: no samples, no such region layer, labels that are not there, or counts out of range.
    """

    def __init__(
        self,
        shards: Shards,
        *,
        layers: Sequence[str] | None = None,
        labels: bool | None = None,
        density: bool = False,
        meta: bool = False,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_uneven: bool = False,
        batch_size: int = 1,
    ):
        if not len(shards):
            raise InputError("the shards hold no sample", where=shards.address, hint="see rejected.parquet")
        if not 0 <= rank < world_size or batch_size < 1:
            raise InputError(f"no rank {rank} of {world_size}, or no batch of {batch_size}", hint="ranks begin at 0")
        labels = shards.has_labels if labels is None else labels
        if labels and not shards.has_labels:
            raise InputError("these shards have no labels", where=shards.address, hint="shard with a --dataset")
        self.shards, self.transform = shards, transform
        self.layers = shards.layers if layers is None else [shards.layer_named(layer) for layer in layers]
        self.labels, self.density, self.meta = labels, density, meta
        self.shuffle, self.seed, self.batch_size = shuffle, seed, batch_size
        self.rank, self.world_size, self.drop_uneven = rank, world_size, drop_uneven
        # epoch and start, in memory that persistent workers share: they never see the dataset itself again
        self._turn = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._process = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())

    def set_epoch(self, epoch: int, *, start: int = 0) -> None:
        """What the next iteration yields; an epoch repeats until this is called.

        Args:
            epoch: decides the order, together with the seed.
            start: how many of this process's samples to pass over: to go on within an epoch after `k` batches, give
                `k * batch_size`, and the batches that follow are those of an uninterrupted epoch.
        """
        if epoch < 0 or start < 0:
            raise InputError(f"epoch {epoch} from sample {start}", hint="both are counted from 0")
        self._turn.copy_(torch.tensor([epoch, start]))

    def __len__(self) -> int:
        """Samples that the next iteration yields in this process, over all workers."""
        whole = len(self.shards) - (len(self.shards) % self.world_size if self.drop_uneven else 0)
        return len(range(self.rank + int(self._turn[1]) * self.world_size, whole, self.world_size))

    def __iter__(self) -> Iterator[Any]:
        worker, numbers = get_worker_info(), self._numbers()
        if worker is None:
            return map(self.sample, numbers.tolist())
        # the DataLoader asks worker after worker for a batch
        turns = np.arange(len(numbers)) // self.batch_size % worker.num_workers
        return self._in_worker(numbers[turns == worker.id].tolist())

    def _numbers(self) -> np.ndarray:
        """int64 [len(self)]: this process's samples of the set epoch, in order, from its start on."""
        num_samples, (epoch, start) = len(self.shards), self._turn.tolist()
        order = np.arange(num_samples)
        if self.shuffle:
            order = permutation(num_samples, self.seed, epoch)
        if self.drop_uneven:
            order = order[: num_samples - num_samples % self.world_size]
        return order[self.rank :: self.world_size][start:]

    def _in_worker(self, numbers: list[int]) -> Iterator[Any]:
        # workers are many, as many as there are cores to use
        cv2.setNumThreads(0)
        try:
            self._refuse_forked_client()
            yield from map(self.sample, numbers)
        except ViceError as error:
            raise WorkerError(error.line()) from None

    def _refuse_forked_client(self) -> None:
        """A client of an object store has threads that a fork leaves behind: its next request would wait for ever."""
        if self._process != os.getpid() and not isinstance(self.shards.storage, LocalStorage):
            hint = 'give the DataLoader multiprocessing_context="spawn"'
            raise InputError("forked workers cannot read an object store", where=self.shards.address, hint=hint)

    def sample(self, number: int) -> Any:
        """One sample as it is yielded: read, decoded, transformed.

        Raises:
            WorkError: a member cannot be read or decoded; names shard and key. What `transform` raises passes, with
                a note that names them too.
        """
        sample = self._read(number)
        if self.transform is None:
            return sample
        try:
            return self.transform(sample)
        except Exception as error:
            error.add_note(f"in the transform of {self.shards.where(number)}")
            raise

    def _read(self, number: int) -> dict[str, Any]:
        maps = [f"{layer}.png" for layer in self.layers]
        maps += [member for member, asked in ((LABELS_MEMBER, self.labels), (DENSITY_MEMBER, self.density)) if asked]
        members = [picture_member(self.shards.record.settings), *maps, *([META_MEMBER] if self.meta else [])]
        data = dict(zip(members, self.shards.read(number, members), strict=True))
        picture = self.shards.decode(data[members[0]], cv2.IMREAD_COLOR_RGB, number)
        arrays = {member: self.shards.decode(data[member], cv2.IMREAD_UNCHANGED, number) for member in maps}
        sample = {
            "key": self.shards.keys[number],
            "number": number,
            "picture": torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))),
            "regions": {layer: torch.from_numpy(arrays[f"{layer}.png"].astype(np.int32)) for layer in self.layers},
        }
        if self.labels:
            sample["labels"] = torch.from_numpy(self.shards.in_class_set(arrays[LABELS_MEMBER]).astype(np.int64))
        if self.density:
            sample["density"] = torch.from_numpy(arrays[DENSITY_MEMBER])
        if self.meta:
            sample["meta"] = json.loads(data[META_MEMBER])
        return sample

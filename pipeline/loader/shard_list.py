"""The shards as the order sees them: how many samples each holds, in the order of the samples' numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from vice.data_specs.errors import InputError
from vice.data_specs.shard_format import MANIFEST_FILE
from vice.pipeline.shards import Shards


class ShardList(NamedTuple):
    """Shards that hold samples."""

    tars: list[str]
    """File names of the tars, in the manifest's order."""
    sizes: np.ndarray
    """int64 [s]: samples of each."""


def list_shards(shards: Shards) -> ShardList:
    """The shards with the number of their samples, from the manifest a piece at a time.

    Raises:
        InputError: the manifest cannot be read, or a shard's samples are not one after the other.
    """
    sizes: dict[str, int] = {}
    last = None
    for batch in shards.manifest_batches(["shard", "index"]):
        runs = pc.run_end_encode(batch.column("shard"))
        parts = np.split(batch.column("index").to_numpy(), runs.run_ends.to_numpy()[:-1])
        for tar, index in zip(runs.values.to_pylist(), parts, strict=True):
            begun = sizes.get(tar, 0)
            if (begun and tar != last) or not np.array_equal(index, np.arange(begun, begun + len(index))):
                raise _not_in_order(shards, tar)
            sizes[tar], last = begun + len(index), tar
    return ShardList(list(sizes), np.fromiter(sizes.values(), np.int64, len(sizes)))


def _not_in_order(shards: Shards, tar: str) -> InputError:
    where = f"{shards.storage.where(MANIFEST_FILE)}, {tar}"
    return InputError("samples of a shard do not follow one another", where=where, hint="run vice-prep verify")

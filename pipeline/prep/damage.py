"""Which shards of a complete OUT are missing or damaged: by the sizes of files, or by their hashes."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from vice.data_specs.shard_format import SHARD_FOLDER
from vice.pipeline.prep.shard import end_of_tar
from vice.pipeline.shards import Shards
from vice.pipeline.storage.base import Storage

_BLOCK = tarfile.BLOCKSIZE


def missing_shards(shards: Shards) -> list[str]:
    """Names of the shards with a file that is missing or has another size.

    The sizes of tars follow from the manifest; the small files next to them are compared by their hashes.
    """
    sizes = {entry.path: entry.size for entry in shards.storage.walk()}
    wrong = [tar for tar, size in _tar_sizes(shards) if sizes.get(tar) != size]
    small = [name for name in _shard_files(shards) if not name.endswith(".tar")]
    wrong += [name for name in small if name not in sizes]
    return _names_of(wrong + _changed(shards, [name for name in small if name in sizes]))


def changed_shards(shards: Shards) -> list[str]:
    """Names of the shards with a file that is missing or has another hash."""
    return _names_of(_changed(shards, _shard_files(shards)))


def _shard_files(shards: Shards) -> list[str]:
    return sorted(name for name in shards.record.files if name.startswith(f"{SHARD_FOLDER}/"))


def _names_of(files: list[str]) -> list[str]:
    """Names of the shards of files, without folder and suffix."""
    return sorted({PurePosixPath(file).stem for file in files})


def _changed(shards: Shards, names: list[str]) -> list[str]:
    """The files that do not have the recorded hash."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = pool.map(lambda name: _sha256(shards.storage, name), names)
    return [name for name, sha256 in zip(names, found, strict=True) if sha256 != shards.record.files[name]]


def _sha256(storage: Storage, name: str) -> str | None:
    try:
        return storage.sha256(name)
    except FileNotFoundError:
        return None


def _tar_sizes(shards: Shards) -> Iterator[tuple[str, int]]:
    """Name and size of every tar that has a sample."""
    content: dict[str, int] = {}
    for batch in shards.manifest_batches(["shard", "member_bytes"]):
        blocks = _blocks(batch["member_bytes"])
        table = pa.table({"shard": batch["shard"], "blocks": blocks}).group_by("shard").aggregate([("blocks", "sum")])
        for tar, count in zip(table["shard"].to_pylist(), table["blocks_sum"].to_pylist(), strict=True):
            content[tar] = content.get(tar, 0) + count * _BLOCK
    for tar, size in content.items():
        yield f"{SHARD_FOLDER}/{tar}", size + end_of_tar(size)


def _blocks(member_bytes: pa.MapArray) -> pa.Array:
    """int64: blocks of headers and data of every sample's members."""
    entry = pa.struct([("key", member_bytes.type.key_type), ("value", member_bytes.type.item_type)])
    lists = member_bytes.cast(pa.list_(entry))
    sizes = pc.struct_field(pc.list_flatten(lists), "value")
    blocks = pc.add(pc.divide(pc.add(sizes, _BLOCK - 1), _BLOCK), 1)
    table = pa.table({"sample": pc.list_parent_indices(lists), "blocks": blocks})
    sums = table.group_by("sample", use_threads=False).aggregate([("blocks", "sum")])
    return sums["blocks_sum"].combine_chunks()

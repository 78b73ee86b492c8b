"""One shard under the lens: its record, index, headers and members against what the manifest says of them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from pydantic import ValidationError

from vice.data_specs.errors import WorkError
from vice.data_specs.regions import IGNORE
from vice.data_specs.shard_format import (
    DATASET_FILE,
    LABELS_MEMBER,
    MANIFEST_FILE,
    META_MEMBER,
    SHARD_FOLDER,
    DatasetRecord,
    ShardRecord,
    parse_index,
)
from vice.pipeline.samples import Sample, decode_sample
from vice.pipeline.storage.base import Storage
from vice.pipeline.superpixels.pieces import count_pieces


@dataclass(frozen=True)
class ShardToCheck:
    """A shard and what the manifest says of it."""

    storage: Storage
    record: DatasetRecord
    name: str
    """Without suffix."""
    rows: list[dict[str, Any]]
    """Its rows of the manifest, in their order there."""

    @property
    def tar(self) -> str:
        """Name of its tar, relative to OUT."""
        return f"{SHARD_FOLDER}/{self.name}.tar"


def shard_problems(shard: ShardToCheck) -> Iterator[str]:
    """What is wrong with a shard's record, index and headers; without reading any member."""
    storage, rows, base = shard.storage, shard.rows, f"{SHARD_FOLDER}/{shard.name}"
    try:
        record = ShardRecord.model_validate_json(storage.read(f"{base}.json"))
    except (FileNotFoundError, ValidationError):
        yield f"{MANIFEST_FILE} names {shard.name}, whose record is not there or is none"
        return
    if record.num_samples != len(rows) or record.settings_fingerprint != shard.record.settings_fingerprint:
        yield f"{shard.name}.json does not fit {MANIFEST_FILE} or {DATASET_FILE}"
    if record.num_samples == 0 and not storage.exists(shard.tar):
        return
    try:
        index = parse_index(storage.read(f"{base}.idx").decode("ascii"))
        headers = _headers(storage, shard.tar)
    except (ValueError, OSError) as error:
        yield f"{shard.name}.tar or its index cannot be read ({error})"
        return
    if [row["index"] for row in rows] != list(range(len(index))):
        yield f"{shard.name}.tar: {MANIFEST_FILE} has {len(rows)} of its {len(index)} samples, or numbers them wrongly"
        return
    expected = [
        (f"{row['key']}.{member}", *place)
        for row, members in zip(rows, index, strict=True)
        for member, place in members.items()
    ]
    if headers != expected:
        wrong = next(a or b for a, b in zip_longest(headers, expected) if a != b)
        yield f"{shard.name}.tar, key {wrong[0].split('.')[0]}: index and tar differ"
    for row, members in zip(rows, index, strict=True):
        if {member: size for member, (_, size) in members.items()} != dict(row["member_bytes"]):
            yield f"{shard.name}.tar, key {row['key']}: members differ from {MANIFEST_FILE}"


def _headers(storage: Storage, tar: str) -> list[tuple[str, int, int]]:
    """Name, offset of the data and size of every member, as the tar's own headers say.

    Of the plain headers that prep writes; `tarfile` takes ten times as long for them.

    Raises:
        ValueError: a header is damaged, or none that prep writes.
    """
    found, position = [], 0
    with storage.open(tar) as file:
        while header := file.read(tarfile.BLOCKSIZE).rstrip(b"\0"):
            name, size = header[:100].rstrip(b"\0").decode("ascii"), int(header[124:135], 8)
            if header[156:157] != b"0" or header[257:262] != b"ustar":
                raise ValueError(f"no plain header at byte {position}")
            found.append((name, position + tarfile.BLOCKSIZE, size))
            position += tarfile.BLOCKSIZE + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            file.seek(position)
    return found


def damaged_keys(storage: Storage, tar: str) -> Iterator[str]:
    """Keys of the samples of a tar that are not as their json member says; all that can be told of a wrong hash.

    Args:
        storage: OUT.
        tar: the tar's name relative to OUT.
    """
    try:
        text = storage.read(tar.removesuffix(".tar") + ".idx").decode("ascii")
        index = parse_index(text)
    except (OSError, ValueError):
        return
    for line, members in zip(text.splitlines()[1:], index, strict=True):
        try:
            data = dict(zip(members, storage.read_ranges(tar, list(members.values())), strict=True))
            told = json.loads(data.pop(META_MEMBER))["sha256"]
            whole = told == {member: hashlib.sha256(content).hexdigest() for member, content in data.items()}
        except (OSError, ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            yield line.split(" ")[3].split(".")[0]


def deep_problems(shard: ShardToCheck) -> Iterator[str]:
    """Every member of a shard decoded and held against the manifest and against each other."""
    if not shard.rows:
        return
    index = parse_index(shard.storage.read(f"{SHARD_FOLDER}/{shard.name}.idx").decode("ascii"))
    for row, members in zip(shard.rows, index, strict=True):
        where = f"{shard.name}.tar, key {row['key']}"
        data = dict(zip(members, shard.storage.read_ranges(shard.tar, list(members.values())), strict=True))
        try:
            sample = decode_sample(row["key"], data, shard.record, where)
        except WorkError as error:
            yield f"{where}: {error.what}"
            continue
        told = (_hash_problem(data, sample.meta), _size_problem(sample, row, shard.record))
        told += (_map_problem(sample, row, shard.record),) if told[1] is None else ()
        yield from (f"{where}: {problem}" for problem in told if problem is not None)


def _hash_problem(data: dict[str, bytes], meta: dict[str, Any]) -> str | None:
    """Every member against the hash in the json member."""
    hashes = {member: hashlib.sha256(content).hexdigest() for member, content in data.items() if member != META_MEMBER}
    wrong = [member for member, sha256 in hashes.items() if meta.get("sha256", {}).get(member) != sha256]
    return f"its {wrong[0]} is not the one that its {META_MEMBER} names" if wrong else None


def _size_problem(sample: Sample, row: dict[str, Any], record: DatasetRecord) -> str | None:
    """Heights, widths and the json member."""
    size = (row["height"], row["width"])
    stride = record.settings.density_stride
    cells = (-(-size[0] // stride), -(-size[1] // stride))
    maps = [sample.picture[..., 0], *sample.regions.values()] + ([] if sample.labels is None else [sample.labels])
    if any(array.shape != size for array in maps) or sample.density.shape != cells:
        return f"picture or maps are not {size[1]} × {size[0]}"
    if row["has_labels"] != (sample.labels is not None):
        return f"{MANIFEST_FILE} is wrong about its {LABELS_MEMBER}"
    told = {name: row[name] for name in ("key", "source", "source_sha256", "group", "width", "height")}
    if any(sample.meta[name] != value for name, value in told.items()):
        return f"its {META_MEMBER} differs from {MANIFEST_FILE}"
    return None


def _map_problem(sample: Sample, row: dict[str, Any], record: DatasetRecord) -> str | None:
    """Types and values of region, density and label maps."""
    for layer, ids in sample.regions.items():
        count = int(ids.max()) + 1
        if ids.dtype != np.uint16 or count != dict(row["num_regions"])[layer]:
            return f"{layer} has another number of regions than {MANIFEST_FILE}"
        if (np.bincount(ids.ravel()) == 0).any():
            return f"{layer} has gaps in its region numbers"
        if count_pieces(ids) != count:
            return f"{layer} has a region in several pieces"
    if sample.density.dtype != np.uint8 or sample.density.min() < 1:
        return "its density is not 8-bit or has zeros"
    if sample.labels is not None:
        classes = sample.labels[sample.labels != IGNORE]
        if sample.labels.dtype != np.uint16 or (classes >= len(record.dataset.classes)).any():
            return "its labels are not classes of the dataset"
    return None

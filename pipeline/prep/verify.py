"""Check a complete OUT: every hash, index and count against manifest and record; with `deep`, every member decoded."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from vice.data_specs.errors import WorkError
from vice.data_specs.fingerprint import sha256_file
from vice.data_specs.regions import IGNORE
from vice.data_specs.shard_format import (
    DATASET_FILE,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    META_MEMBER,
    REJECTED_FILE,
    REJECTED_SCHEMA,
    SHARD_FOLDER,
    ShardRecord,
    read_dataset_record,
)
from vice.pipeline.prep.regions import connected_pieces
from vice.pipeline.shards import Sample, Shards, parse_index

_SHOWN = 5
"""Problems named in the error; the rest are counted."""


def verify_shards(out: Path, *, deep: bool = False) -> str:
    """Check OUT.

    Args:
        out: a complete folder of shards.
        deep: also decode every member and check shapes, types, region numbers and classes.

    Returns:
        A line that says what was checked.

    Raises:
        InputError: OUT is not a complete folder of shards.
        WorkError: something is wrong; names shard and key, or the file.
    """
    problems = list(_file_problems(out))
    if not problems:
        shards = Shards(out)
        problems = list(_table_problems(shards)) or list(_shard_problems(shards))
        if deep and not problems:
            problems = list(_member_problems(shards))
    if problems:
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise WorkError("; ".join(problems[:_SHOWN]) + more, where=out, hint="shard again into a new folder")
    checked = "every member decoded" if deep else "hashes, indices and counts"
    record = shards.record
    return f"good: {record.num_samples} samples in {record.num_shards} shards, {checked} ({record.fingerprint[:16]})"


def _file_problems(out: Path) -> Iterator[str]:
    """Files against the record: its own fingerprint, what is missing, what is extra, every sha256."""
    record = read_dataset_record(out)
    if record.fingerprint != record.computed_fingerprint():
        yield f"{DATASET_FILE} was changed: its fingerprint is not its own"
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()} - {DATASET_FILE}
    yield from (f"{name} is missing" for name in sorted(record.files.keys() - present))
    yield from (f"{name} is extra" for name in sorted(present - record.files.keys()))
    for name in _tracked(sorted(record.files.keys() & present), "hashing"):
        if sha256_file(out / name) != record.files[name]:
            yield f"{name} was changed: its sha256 is not the recorded one"


def _table_problems(shards: Shards) -> Iterator[str]:
    """Manifest and rejected list against the record: schemas, counts, no key and no source twice."""
    rejected = pq.read_table(shards.folder / REJECTED_FILE)
    for name, table, schema in (
        (MANIFEST_FILE, shards.manifest, MANIFEST_SCHEMA),
        (REJECTED_FILE, rejected, REJECTED_SCHEMA),
    ):
        if not table.schema.equals(schema):
            yield f"{name} has another schema"
            return
    record = shards.record
    sources = shards.manifest["source"].to_pylist() + rejected["source"].to_pylist()
    counts = (len(shards), rejected.num_rows, len(sources))
    if counts != (record.num_samples, record.num_rejected, record.num_inputs):
        yield f"{MANIFEST_FILE} and {REJECTED_FILE} have {counts[0]} + {counts[1]} rows, {DATASET_FILE} says otherwise"
    if len(set(sources)) != len(sources) or len(set(shards.keys)) != len(shards.keys):
        yield f"{MANIFEST_FILE} or {REJECTED_FILE} has a key or a source twice"


def _shard_problems(shards: Shards) -> Iterator[str]:
    """Each shard's record, index and tar headers against its rows of the manifest."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in shards.manifest.to_pylist():
        rows.setdefault(row["shard"], []).append(row)
    folder = shards.folder / SHARD_FOLDER
    names = [Path(name).stem for name in sorted(shards.record.files) if name.startswith(f"{SHARD_FOLDER}/")]
    names = list(dict.fromkeys(names))
    if len(names) != shards.record.num_shards:
        yield f"{len(names)} shards, {DATASET_FILE} says {shards.record.num_shards}"
    for name in _tracked(names, "reading indices"):
        mine = sorted(rows.pop(f"{name}.tar", []), key=lambda row: row["index"])
        yield from _one_shard(folder / f"{name}.tar", mine, shards.record.settings_fingerprint)
    yield from (f"{MANIFEST_FILE} names {name}, which is not there" for name in sorted(rows))


def _one_shard(tar: Path, rows: list[dict[str, Any]], settings_fingerprint: str) -> Iterator[str]:
    record = ShardRecord.model_validate_json(tar.with_suffix(".json").read_bytes())
    if record.num_samples != len(rows) or record.settings_fingerprint != settings_fingerprint:
        yield f"{tar.stem}.json does not fit {MANIFEST_FILE} or {DATASET_FILE}"
    if record.num_samples == 0 and not tar.exists():
        return
    try:
        index = parse_index(tar.with_suffix(".idx").read_text(encoding="ascii"))
        headers = _headers(tar)
    except (ValueError, tarfile.TarError) as error:
        yield f"{tar.name} or its index cannot be read ({error})"
        return
    if [row["index"] for row in rows] != list(range(len(index))):
        yield f"{tar.name}: {MANIFEST_FILE} has {len(rows)} of its {len(index)} samples, or numbers them wrongly"
        return
    expected = [
        (f"{row['key']}.{member}", *place)
        for row, members in zip(rows, index, strict=True)
        for member, place in members.items()
    ]
    if headers != expected:
        wrong = next(a or b for a, b in zip_longest(headers, expected) if a != b)
        yield f"{tar.name}, key {wrong[0].split('.')[0]}: index and tar differ"
    for row, members in zip(rows, index, strict=True):
        if {member: size for member, (_, size) in members.items()} != dict(row["member_bytes"]):
            yield f"{tar.name}, key {row['key']}: members differ from {MANIFEST_FILE}"


def _headers(tar: Path) -> list[tuple[str, int, int]]:
    """Name, offset of the data and size of every member, as the tar's own headers say."""
    with tarfile.open(tar, "r:") as archive:
        return [(entry.name, entry.offset_data, entry.size) for entry in archive]


def _member_problems(shards: Shards) -> Iterator[str]:
    """Every member decoded and held against the manifest and against each other."""
    rows = shards.manifest.to_pylist()
    for number in _tracked(range(len(shards)), "decoding"):
        try:
            sample = shards.sample(number)
        except WorkError as error:
            yield f"{shards.where(number)}: {error.what}"
            continue
        except ValueError:
            yield f"{shards.where(number)}: its {META_MEMBER} cannot be read"
            continue
        told = (_size_problem(sample, rows[number], shards), _map_problem(sample, rows[number], shards))
        yield from (f"{shards.where(number)}: {problem}" for problem in told if problem is not None)


def _size_problem(sample: Sample, row: dict[str, Any], shards: Shards) -> str | None:
    """Heights, widths and the json member."""
    size = (row["height"], row["width"])
    stride = shards.record.settings.density_stride
    cells = (-(-size[0] // stride), -(-size[1] // stride))
    maps = [sample.picture[..., 0], *sample.regions.values()] + ([] if sample.labels is None else [sample.labels])
    if any(array.shape != size for array in maps) or sample.density.shape != cells:
        return f"picture or maps are not {size[1]} × {size[0]}"
    told = {name: row[name] for name in ("key", "source", "source_sha256", "group", "width", "height")}
    if any(sample.meta[name] != value for name, value in told.items()):
        return f"its {META_MEMBER} differs from {MANIFEST_FILE}"
    return None


def _map_problem(sample: Sample, row: dict[str, Any], shards: Shards) -> str | None:
    """Types and values of region, density and label maps."""
    for layer, ids in sample.regions.items():
        count = int(ids.max()) + 1
        if ids.dtype != np.uint16 or count != dict(row["num_regions"])[layer]:
            return f"{layer} has another number of regions than {MANIFEST_FILE}"
        if (np.bincount(ids.ravel()) == 0).any():
            return f"{layer} has gaps in its region numbers"
        if connected_pieces(ids)[1] != count:
            return f"{layer} has a region in several pieces"
    if sample.density.dtype != np.uint8 or sample.density.min() < 1:
        return "its density is not 8-bit or has zeros"
    if sample.labels is not None:
        classes = sample.labels[sample.labels != IGNORE]
        if sample.labels.dtype != np.uint16 or (classes >= len(shards.spec.classes)).any():
            return "its labels are not classes of the dataset"
    return None


def _tracked(items: Sequence[Any], what: str) -> Iterable[Any]:
    console = Console(stderr=True)
    return track(items, description=what, console=console, disable=not console.is_terminal, transient=True)

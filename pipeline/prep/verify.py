"""Check a complete OUT: every hash, index and count against manifest and record; with `deep`, every member decoded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import (
    DATASET_FILE,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    REJECTED_FILE,
    REJECTED_SCHEMA,
    SHARD_FOLDER,
    fingerprint_of_record,
)
from vice.pipeline.prep.path_sets import Pieces, column_pieces, has_repeats
from vice.pipeline.prep.tar_members import REPEATED_NAME
from vice.pipeline.prep.verify_shard import ShardToCheck, damaged_keys, deep_problems, shard_problems
from vice.pipeline.shards import Shards
from vice.pipeline.storage.base import Storage

_SHOWN = 5
"""Problems named in the error; the rest are counted."""

_Item = TypeVar("_Item")


def verify_shards(out: str | Path | Storage, *, deep: bool = False) -> str:
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
    shards = Shards(out)
    problems = _problems(shards, deep)
    first = list(islice(problems, _SHOWN))
    if first:
        more = sum(1 for _ in problems)
        told = "; ".join(first) + (f" (and {more} more)" if more else "")
        raise WorkError(told, where=shards.address, hint="shard again into a new folder")
    checked = "every member decoded" if deep else "hashes, indices and counts"
    record = shards.record
    return f"good: {record.num_samples} samples in {record.num_shards} shards, {checked} ({record.fingerprint[:16]})"


def _problems(shards: Shards, deep: bool) -> Iterator[str]:
    """What is wrong, told as it is found; what builds on something that is wrong is not checked."""
    for check in (_file_problems, _table_problems, _shard_problems, *([_member_problems] if deep else [])):
        found = False
        for problem in check(shards):
            found = True
            yield problem
        if found:
            return


def _file_problems(shards: Shards) -> Iterator[str]:
    """Files against the record: its own fingerprint, what is missing, what is extra, every sha256."""
    storage, record = shards.storage, shards.record
    if record.fingerprint != fingerprint_of_record(storage.read(DATASET_FILE)):
        yield f"{DATASET_FILE} was changed: its fingerprint is not its own"
    present = {entry.path for entry in storage.walk(hidden=True)} - {DATASET_FILE}
    yield from (f"{name} is missing" for name in sorted(record.files.keys() - present))
    yield from (f"{name} is extra" for name in sorted(present - record.files.keys()))
    names = sorted(record.files.keys() & present)
    for name, sha256 in zip(names, _in_threads(storage.sha256, names, "hashing"), strict=True):
        if sha256 != record.files[name]:
            yield f"{name} was changed: its sha256 is not the recorded one{_where_in(name, shards)}"


def _where_in(name: str, shards: Shards) -> str:
    """Keys of the damaged samples of a tar, as far as its own records tell them."""
    if not name.endswith(".tar"):
        return ""
    keys = list(damaged_keys(shards.storage, name))
    told = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    return f" (key {told})" if keys else ""


def _table_problems(shards: Shards) -> Iterator[str]:
    """Manifest and rejected list against the record: schemas, counts, no key and no source twice.

    Of a name that a tar holds repeatedly, every copy but the last is a rejection with the same source.
    """
    with shards.storage.open(MANIFEST_FILE) as manifest, shards.storage.open(REJECTED_FILE) as file:
        schemas = ((MANIFEST_FILE, pq.read_schema(manifest), MANIFEST_SCHEMA),)
        rejected = pq.read_table(file)
    # folders that were made before rejections had codes lack the last column
    rejected_schema = REJECTED_SCHEMA if "code" in rejected.column_names else REJECTED_SCHEMA.remove(3)
    for name, schema, wanted in (*schemas, (REJECTED_FILE, rejected.schema, rejected_schema)):
        if not schema.equals(wanted):
            yield f"{name} has another schema"
            return
    record = shards.record
    num_rows = sum(batch.num_rows for batch in shards.manifest_batches(["key"]))
    if (num_rows, rejected.num_rows, num_rows + rejected.num_rows) != (
        record.num_samples,
        record.num_rejected,
        record.num_inputs,
    ):
        what = f"{MANIFEST_FILE} and {REJECTED_FILE} have {num_rows} + {rejected.num_rows} rows"
        yield f"{what}, {DATASET_FILE} says otherwise"
    once = rejected.filter(pc.not_equal(rejected["reason"], REPEATED_NAME))["source"].to_pylist()

    def stored(column: str) -> Pieces:
        return column_pieces(shards.manifest_batches([column]), column)

    if has_repeats(lambda: stored("key")) or has_repeats(lambda: chain([once], stored("source"))):
        yield f"{MANIFEST_FILE} or {REJECTED_FILE} has a key or a source twice"


def _shard_problems(shards: Shards) -> Iterator[str]:
    """Each shard's record, index and tar headers against its rows of the manifest."""
    if shards.record.num_shards != len(_shard_names(shards)):
        yield f"{len(_shard_names(shards))} shards, {DATASET_FILE} says {shards.record.num_shards}"
    told = _in_threads(lambda shard: list(shard_problems(shard)), _shards_to_check(shards), "reading indices")
    for problems in told:
        yield from problems


def _member_problems(shards: Shards) -> Iterator[str]:
    """Every member decoded and held against the manifest and against each other."""
    told = _in_threads(lambda shard: list(deep_problems(shard)), _shards_to_check(shards), "decoding")
    for problems in told:
        yield from problems


def _shard_names(shards: Shards) -> list[str]:
    """Names of all shards without suffix, in order."""
    names = (Path(name).stem for name in sorted(shards.record.files) if name.startswith(f"{SHARD_FOLDER}/"))
    return list(dict.fromkeys(names))


def _shards_to_check(shards: Shards) -> Iterator[ShardToCheck]:
    """Every shard with its rows of the manifest, which are taken as they come: its rows stand together."""
    names = iter(_shard_names(shards))
    for tar, rows in _grouped(shards):
        for name in names:
            is_next = f"{name}.tar" == tar
            yield ShardToCheck(shards.storage, shards.record, name, rows if is_next else [])
            if is_next:
                break
        else:
            yield ShardToCheck(shards.storage, shards.record, tar.removesuffix(".tar"), rows)
    for name in names:
        yield ShardToCheck(shards.storage, shards.record, name, [])


def _grouped(shards: Shards) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Neighbouring rows of the manifest with the same tar."""
    tar, rows = None, []
    for batch in shards.manifest_batches():
        for row in batch.to_pylist():
            if row["shard"] != tar:
                if rows:
                    yield tar, rows
                tar, rows = row["shard"], []
            rows.append(row)
    if rows:
        yield tar, rows


def _in_threads(work: Callable[[_Item], Any], items: Iterable[_Item], what: str) -> Iterator[Any]:
    """`work` of every item, in order, a few at a time, with a bar: hashing and decoding leave the interpreter free."""
    console = Console(stderr=True)
    threads = len(os.sched_getaffinity(0))
    total = len(items) if isinstance(items, list) else None
    with ThreadPoolExecutor(threads) as pool:
        results = _bounded(pool, work, iter(items), 2 * threads)
        yield from track(
            results, what, total, console=console, disable=not console.is_terminal, transient=True, update_period=0.5
        )


def _bounded(
    pool: ThreadPoolExecutor, work: Callable[[_Item], Any], items: Iterator[_Item], most: int
) -> Iterator[Any]:
    """Results in order, with at most `most` items taken before their turn."""
    running = [pool.submit(work, item) for item in islice(items, most)]
    while running:
        yield running.pop(0).result()
        running += [pool.submit(work, item) for item in islice(items, 1)]

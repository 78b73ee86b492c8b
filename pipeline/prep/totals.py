"""The files that make OUT complete: manifest, rejected list and, last, the dataset record."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vice.data_specs.errors import WorkError
from vice.data_specs.fingerprint import sha256_file
from vice.data_specs.shard_format import (
    DATASET_FILE,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    REJECTED_FILE,
    REJECTED_SCHEMA,
    SHARD_FOLDER,
    DatasetRecord,
    ShardRecord,
)
from vice.pipeline.prep.workspace import Workspace


def complete(workspace: Workspace) -> DatasetRecord:
    """Write manifest, rejected list and dataset record of a workspace whose shards are all whole.

    Raises:
        WorkError: every input was rejected; OUT is left empty.
    """
    plan = workspace.plan
    rows = [workspace.shard_rows(number) for number in range(plan.num_shards)]
    samples = [row for shard in rows for row in shard["samples"]]
    rejected = sorted((row for shard in rows for row in shard["rejected"]), key=lambda row: row["source"])
    if not samples:
        workspace.discard()
        reasons = "; ".join(commonest_reasons(rejected))
        raise WorkError(f"all {len(rejected)} inputs were rejected ({reasons})", where=plan.source)
    workspace.write(MANIFEST_FILE, parquet_bytes(samples, MANIFEST_SCHEMA))
    workspace.write(REJECTED_FILE, parquet_bytes(rejected, REJECTED_SCHEMA))
    record = DatasetRecord.sealed(
        settings=plan.settings,
        dataset=plan.spec,
        implementation=plan.implementation,
        settings_fingerprint=plan.settings_fingerprint,
        num_inputs=len(plan.order),
        num_samples=len(samples),
        num_rejected=len(rejected),
        num_shards=plan.num_shards,
        files=_hashes(workspace),
    )
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False, sort_keys=True)
    workspace.write(DATASET_FILE, text.encode() + b"\n")
    workspace.finish()
    return record


def commonest_reasons(rejected: list[dict[str, Any]], limit: int = 3) -> list[str]:
    """The commonest reasons of rejection, each as `12 × picture: no picture in a known format`."""
    counts = Counter((row["stage"], row["reason"]) for row in rejected)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"{count} × {stage}: {reason}" for (stage, reason), count in ranked[:limit]]


def parquet_bytes(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    """Rows as a Parquet file: equal rows, equal bytes."""
    maps = {field.name for field in schema if pa.types.is_map(field.type)}
    plain = [{name: list(value.items()) if name in maps else value for name, value in row.items()} for row in rows]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(plain, schema=schema), buffer, compression="zstd", version="2.6")
    return buffer.getvalue()


def _hashes(workspace: Workspace) -> dict[str, str]:
    """sha256 of every file of OUT but the dataset record, by relative path; the shards' records know their own."""
    hashes = {name: sha256_file(workspace.out / name) for name in (MANIFEST_FILE, REJECTED_FILE)}
    for number in range(workspace.plan.num_shards):
        path = workspace.shards / f"{workspace.plan.shard(number)}.json"
        record = ShardRecord.model_validate_json(path.read_bytes())
        if record.num_samples:
            hashes[f"{SHARD_FOLDER}/{path.stem}.tar"] = record.tar_sha256
            hashes[f"{SHARD_FOLDER}/{path.stem}.idx"] = record.index_sha256
        hashes[f"{SHARD_FOLDER}/{path.name}"] = sha256_file(path)
    return hashes

"""The files that make OUT complete: manifest, rejected list and, last, the dataset record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa

from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import (
    DATASET_FILE,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    REJECTED_FILE,
    DatasetRecord,
)
from vice.pipeline.prep.shard import ShardFiles, read_rows
from vice.pipeline.prep.tables import commonest_reasons, write_parquet
from vice.pipeline.prep.workspace import Workspace
from vice.pipeline.storage.base import hashed_file


def complete(workspace: Workspace, shards: Sequence[ShardFiles]) -> DatasetRecord:
    """Write manifest, rejected list and dataset record of a workspace whose shards are all whole.

    Args:
        workspace: OUT.
        shards: all of them, in order.

    Raises:
        WorkError: every input was rejected; OUT is left empty.
    """
    plan = workspace.plan
    rejected: list[pa.Table] = []
    num_samples = sum(shard.num_samples for shard in shards)
    files = {name: sha256 for shard in shards for name, sha256 in shard.files.items()}
    with hashed_file(workspace.out, MANIFEST_FILE) as file:
        write_parquet(file, _manifest_rows(workspace, shards, rejected), MANIFEST_SCHEMA)
        files[MANIFEST_FILE] = file.sha256
    listed = pa.concat_tables(rejected).sort_by("source")
    if not num_samples:
        workspace.discard()
        reasons = "; ".join(commonest_reasons(listed))
        hint = plan.spec.source or None
        raise WorkError(f"all {listed.num_rows} inputs were rejected ({reasons})", where=plan.source, hint=hint)
    with hashed_file(workspace.out, REJECTED_FILE) as file:
        write_parquet(file, [listed], listed.schema)
        files[REJECTED_FILE] = file.sha256
    record = DatasetRecord.sealed(
        settings=plan.settings,
        dataset=plan.spec,
        implementation=plan.implementation,
        settings_fingerprint=plan.settings_fingerprint,
        num_inputs=len(plan.order),
        num_samples=num_samples,
        num_rejected=listed.num_rows,
        num_shards=plan.num_shards,
        files=files,
    )
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False, sort_keys=True)
    workspace.check()
    workspace.out.write(DATASET_FILE, text.encode() + b"\n")
    workspace.finish()
    return record


def _manifest_rows(workspace: Workspace, shards: Sequence[ShardFiles], rejected: list[pa.Table]) -> Iterator[pa.Table]:
    """Manifest rows, shard by shard; rejections are put aside into `rejected` as they come by."""
    for shard in shards:
        samples, left_out = read_rows(workspace.out, shard.name)
        rejected.append(left_out)
        yield samples

"""The files that make OUT complete: manifest, rejected list and, last, the dataset record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import (
    DATASET_FILE,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    REJECTED_FILE,
    DatasetRecord,
    Note,
)
from vice.pipeline.prep.earlier import Earlier
from vice.pipeline.prep.inputs import printable_paths
from vice.pipeline.prep.plan import Plan
from vice.pipeline.prep.shard import ShardFiles, read_rows
from vice.pipeline.prep.tables import commonest_reasons, rejected_table, write_parquet
from vice.pipeline.prep.workspace import Workspace
from vice.pipeline.storage.base import hashed_file

_NAMED = 5
"""Sources that a note names; the rest are counted."""


def complete(workspace: Workspace, shards: Sequence[ShardFiles]) -> DatasetRecord:
    """Write manifest, rejected list and dataset record of a workspace whose shards are all whole.

    Where inputs are appended, the new samples come after the earlier ones. An input that was rejected earlier and is
    among the appended ones is listed once, with what became of it now.

    Args:
        workspace: OUT.
        shards: all of them, in order.

    Raises:
        WorkError: every input was rejected; OUT is left empty, or as it was.
    """
    plan, earlier = workspace.plan, workspace.earlier
    num_samples = sum(shard.num_samples for shard in shards)
    if not num_samples:
        raise _all_rejected(workspace, shards)
    before = _totals_before(plan, earlier)
    rejected, notes = [before.rejected], _Notes(before.notes)
    files = dict(before.files) | {name: sha256 for shard in shards for name, sha256 in shard.files.items()}
    with hashed_file(workspace.out, MANIFEST_FILE) as file:
        write_parquet(file, _manifest_rows(workspace, shards, rejected, notes), MANIFEST_SCHEMA)
        files[MANIFEST_FILE] = file.sha256
    listed = pa.concat_tables(rejected).sort_by("source")
    with hashed_file(workspace.out, REJECTED_FILE) as file:
        write_parquet(file, [listed], listed.schema)
        files[REJECTED_FILE] = file.sha256
    record = DatasetRecord.sealed(
        settings=plan.settings,
        dataset=plan.spec,
        implementation=plan.implementation,
        settings_fingerprint=plan.settings_fingerprint,
        num_inputs=before.num_inputs + len(plan.order),
        num_samples=before.num_samples + num_samples,
        num_rejected=listed.num_rows,
        num_shards=plan.numbers.stop,
        notes=dict(notes),
        files=files,
        **before.versions | ({"version": 3} if notes or plan.settings.white_level is not None else {}),
    )
    text = json.dumps(record.content(), indent=1, ensure_ascii=False, sort_keys=True)
    workspace.check()
    workspace.out.write(DATASET_FILE, text.encode() + b"\n")
    workspace.finish()
    return record


class _Notes(dict[str, Note]):
    """Notes, counted."""

    def add(self, source: str, note: str) -> None:
        """Count one."""
        counted = self.get(note, Note(num_inputs=0, sources=[]))
        sources = [*counted.sources, source][:_NAMED]
        self[note] = Note(num_inputs=counted.num_inputs + 1, sources=sources)


class _Before(NamedTuple):
    """What the shards of an earlier version add to the totals."""

    rejected: pa.Table
    files: dict[str, str]
    num_inputs: int
    num_samples: int
    versions: dict[str, Any]
    notes: dict[str, Note]


def _totals_before(plan: Plan, earlier: Earlier | None) -> _Before:
    if earlier is None:
        return _Before(rejected_table([]), {}, 0, 0, {}, {})
    record, listed = earlier.record, earlier.rejected()
    rejected_before = set(listed["source"].to_pylist())
    again = [path for path in printable_paths(plan.inputs) if path in rejected_before]
    rejected = listed.filter(pc.invert(pc.is_in(listed["source"], value_set=pa.array(again, pa.string()))))
    versions = {
        "version": 2,
        "data_version": record.data_version + 1,
        "earlier": [*record.earlier, record.as_earlier()],
    }
    num_inputs = record.num_inputs - (listed.num_rows - rejected.num_rows)
    return _Before(rejected, record.files, num_inputs, record.num_samples, versions, record.notes)


def _all_rejected(workspace: Workspace, shards: Sequence[ShardFiles]) -> WorkError:
    """Leave OUT as it was, and say why nothing came of it."""
    listed = pa.concat_tables([read_rows(workspace.out, shard.name).rejected for shard in shards])
    workspace.discard()
    reasons = "; ".join(commonest_reasons(listed))
    if workspace.earlier:
        what = f"all {listed.num_rows} inputs to add were rejected ({reasons}); OUT is as it was"
        return WorkError(what, where=workspace.out.address)
    plan = workspace.plan
    what = f"all {listed.num_rows} inputs were rejected ({reasons})"
    return WorkError(what, where=plan.source, hint=plan.spec.source or None)


def _manifest_rows(
    workspace: Workspace, shards: Sequence[ShardFiles], rejected: list[pa.Table], notes: _Notes
) -> Iterator[pa.Table]:
    """Manifest rows, shard by shard, after the earlier ones; rejections and notes are collected on the way."""
    if workspace.earlier:
        yield from workspace.earlier.manifest()
    for shard in shards:
        rows = read_rows(workspace.out, shard.name)
        rejected.append(rows.rejected)
        for source, note in rows.notes:
            notes.add(source, note)
        yield rows.samples

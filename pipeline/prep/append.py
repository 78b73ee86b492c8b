"""New inputs become new shards of a complete OUT; its bytes stay, and its record gets another version."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from vice.data_specs.errors import InputError
from vice.data_specs.shard_format import DatasetRecord
from vice.pipeline.prep.earlier import Earlier
from vice.pipeline.prep.inputs import Inputs, find_inputs, printable_paths
from vice.pipeline.prep.job import make_shards, reported_in_one_line
from vice.pipeline.prep.kept_tars import KeptTars
from vice.pipeline.prep.plan import implementation, plan_of, settings_identity
from vice.pipeline.prep.rejection import Rejected
from vice.pipeline.prep.sample import Recipe, read_bytes
from vice.pipeline.prep.workspace import refuse_difference
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.opening import open_storage

_NAMED = 5
"""Files that a message names."""


class Appended(NamedTuple):
    """What was added to an OUT."""

    record: DatasetRecord
    num_new: int
    """New samples."""
    num_tried: int
    """Inputs that were not in the shards; without any, nothing was done."""
    num_present: int
    """Inputs of the source that were there already, or were not tried."""

    @property
    def headline(self) -> str:
        """A line that says what was done."""
        if not self.num_tried:
            return f"nothing to add: all {self.num_present:,} inputs are in OUT already"
        version = f"OUT is version {self.record.data_version} now"
        return (
            f"added {self.num_new:,} of {self.num_tried:,} inputs ({self.num_present:,} others left alone); {version}"
        )


def append(
    source: str | Path, out: str | Path | Storage, *, workers: int | None = None, ray_address: str | None = None
) -> Appended:
    """Shard the inputs of a source that OUT does not list yet, with OUT's settings; run again, finish it.

    Args:
        source: OUT's source, which has grown, or another one; inputs are identified by their paths.
        out: a complete folder of shards.
        workers: number of processes, see `shard_dataset`.
        ray_address: a running Ray cluster to join.

    Raises:
        InputError: bad source or OUT, other versions of what makes bytes, or other pictures under the same paths.
        WorkError: every new input was rejected, another run is writing, or the work failed; OUT stays complete.
    """
    storage = open_storage(out)
    with reported_in_one_line(storage):
        earlier, kept = Earlier(storage), KeptTars(storage)
        inputs, paths = _listed(source, earlier, kept)
        known = pa.concat_arrays([earlier.stored_sources(), earlier.rejected_sources()])
        present = pc.is_in(paths, value_set=known)
        if pc.any(present).as_py() and not pc.all(pc.is_in(known, value_set=paths)).as_py():
            _refuse_other_pictures(inputs, present, paths, earlier, str(source))
        return _extend(str(source), storage, earlier, inputs, pc.invert(present), kept, workers, ray_address)


def retry_rejected(
    source: str | Path, out: str | Path | Storage, *, workers: int | None = None, ray_address: str | None = None
) -> Appended:
    """Try the rejected inputs of a complete OUT again; those that have become good go into new shards at its end.

    Args:
        source: OUT's source.
        out: a complete folder of shards.
        workers: number of processes, see `shard_dataset`.
        ray_address: a running Ray cluster to join.

    Raises:
        InputError: bad source or OUT, or other versions of what makes bytes.
        WorkError: every input was rejected again, another run is writing, or the work failed; OUT stays complete.
    """
    storage = open_storage(out)
    with reported_in_one_line(storage):
        earlier, kept = Earlier(storage), KeptTars(storage)
        inputs, paths = _listed(source, earlier, kept)
        rejected = pc.is_in(paths, value_set=earlier.rejected_sources())
        stored = pc.is_in(paths, value_set=earlier.stored_sources())
        return _extend(str(source), storage, earlier, inputs, pc.and_not(rejected, stored), kept, workers, ray_address)


def _listed(source: str | Path, earlier: Earlier, kept: KeptTars) -> tuple[Inputs, pa.Array]:
    """The source's inputs, and their paths as tables hold them."""
    inputs = find_inputs(source, earlier.record.dataset, earlier.record.settings.split, kept)
    return inputs, pa.array(printable_paths(inputs), pa.large_string())


def _extend(
    source: str,
    out: Storage,
    earlier: Earlier,
    inputs: Inputs,
    chosen: pa.Array,
    kept: KeptTars,
    workers: int | None,
    ray_address: str | None,
) -> Appended:
    """Make shards of the chosen inputs."""
    record = earlier.record
    theirs = settings_identity(record.settings, record.dataset, record.implementation)
    ours = settings_identity(record.settings, record.dataset, implementation(record.settings))
    refuse_difference(theirs, ours, out)
    num_tried = pc.sum(chosen).as_py() or 0
    if not num_tried:
        return Appended(record, 0, 0, len(inputs))
    new = inputs.subset(chosen, after=record.fingerprint)
    plan = plan_of(source, new, record.settings, record.dataset, first_shard=record.num_shards)
    made = make_shards(out, plan, earlier, kept=kept, workers=workers, ray_address=ray_address)
    return Appended(made, made.num_samples - record.num_samples, num_tried, len(inputs) - num_tried)


def _refuse_other_pictures(inputs: Inputs, present: pa.Array, paths: pa.Array, earlier: Earlier, source: str) -> None:
    """Where a source lacks some of OUT's inputs, its paths may be those of another folder by chance: compare bytes.

    Raises:
        InputError: pictures of the same path differ.
    """
    stored = {
        row["source"]: row["source_sha256"]
        for table in earlier.manifest(["source", "source_sha256"])
        for row in table.to_pylist()
    }
    other = []
    for number in pc.indices_nonzero(present).to_pylist():
        path = paths[number].as_py()
        if path in stored and _sha256(inputs, number, earlier) != stored[path]:
            other.append(path)
    if other:
        names = ", ".join(other[:_NAMED]) + (", …" if len(other) > _NAMED else "")
        what = f"{len(other)} pictures have the path of another picture in OUT ({names})"
        raise InputError(what, where=source, hint="give a folder further up, so that paths differ")


def _sha256(inputs: Inputs, number: int, earlier: Earlier) -> str | None:
    try:
        recipe = Recipe(inputs.storage, earlier.record.dataset, earlier.record.settings)
        return hashlib.sha256(read_bytes(inputs[number], recipe)).hexdigest()
    except Rejected:
        return None

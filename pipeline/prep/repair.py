"""Shards of a complete OUT that are missing or damaged are made again from the source, to the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from vice.data_specs.errors import WorkError
from vice.data_specs.fingerprint import difference
from vice.data_specs.shard_format import SHARD_FOLDER
from vice.pipeline.prep.damage import changed_shards
from vice.pipeline.prep.earlier import Earlier
from vice.pipeline.prep.executors import joined, open_executor
from vice.pipeline.prep.inputs import Inputs, find_inputs, printable_paths
from vice.pipeline.prep.plan import KeyedInput, implementation
from vice.pipeline.prep.sample import Recipe
from vice.pipeline.prep.shard import WORK_FOLDER, Part, ShardFiles, record_bytes, write_tar
from vice.pipeline.prep.workspace import LOCK
from vice.pipeline.shards import Shards
from vice.pipeline.storage.base import Hold, Storage


class _Recorded(NamedTuple):
    """What a complete OUT says of a shard."""

    rows: list[dict[str, Any]]
    """key, source and source_sha256 of its samples, in order."""
    files: dict[str, str]
    """sha256 of its files, by suffix."""
    settings_fingerprint: str
    max_rejected: int
    """Most inputs that a shard can have."""
    hint: str
    """What may be the reason where the same sources give other bytes."""


@dataclass(frozen=True)
class _Repair:
    """The shards to be made again: of what the manifest names, whatever else the source holds by now."""

    recipe: Recipe
    settings_fingerprint: str
    inputs: Inputs
    names: list[str]
    recorded: list[_Recorded]
    numbers: dict[str, int]
    """Source to its number among the inputs."""

    def shard(self, number: int) -> str:
        """Name of a shard without suffix."""
        return self.names[number]

    def num_inputs_of(self, number: int) -> int:
        """Number of samples of a shard."""
        return len(self.recorded[number].rows)

    def inputs_of(self, number: int) -> list[KeyedInput]:
        """The inputs that became the samples of a shard, in order."""
        rows = self.recorded[number].rows
        return [KeyedInput(self.inputs[self.numbers[row["source"]]], row["key"]) for row in rows]


def repair_damage(
    source: str | Path, out: str | Path | Storage, *, workers: int | None = None, ray_address: str | None = None
) -> str:
    """Make every shard again whose files are missing or do not have the recorded hashes.

    Args:
        source: OUT's source.
        out: a complete folder of shards.
        workers: see `repair_shards`.
        ray_address: see `repair_shards`.

    Returns:
        A line that names the shards.

    Raises:
        InputError: bad source, or OUT is not a complete folder of shards.
        WorkError: see `repair_shards`.
    """
    shards = Shards(out)
    names = changed_shards(shards)
    if not names:
        clear_leftovers(shards.storage)
        return "no shard to repair"
    inputs = find_inputs(source, shards.spec, shards.record.settings.split)
    repair_shards(shards, inputs, names, workers=workers, ray_address=ray_address)
    return f"made again: {', '.join(names)}"


def repair_shards(
    shards: Shards, inputs: Inputs, names: list[str], *, workers: int | None = None, ray_address: str | None = None
) -> None:
    """Make shards again.

    Args:
        shards: a complete OUT.
        inputs: its source.
        names: of the shards, without suffix.
        workers: number of processes, see `shard_dataset`.
        ray_address: a running Ray cluster to join.

    Raises:
        WorkError: a source is missing or has changed, or this program makes other bytes; shards that were made until
            then are whole, the others are as they were.
    """
    plan = _plan(shards, inputs, names)
    out = shards.storage
    # nothing has to be computed for a shard without samples
    empty = [number for number in range(len(names)) if not plan.num_inputs_of(number)]
    others = [number for number in range(len(names)) if number not in empty]
    with joined(workers, ray_address if others else None), out.hold(LOCK) as hold:
        for number in empty:
            _rewrite(out, names[number], [], plan.recorded[number])
        if others:
            _make(out, plan, others, hold, workers, ray_address)
        if not Earlier(out).is_kept:
            out.delete_folder(WORK_FOLDER)


def clear_leftovers(out: Storage) -> None:
    """Remove what a repair left that was killed once all shards were whole again.

    Args:
        out: a complete folder of shards.

    Raises:
        WorkError: another run is writing there.
    """
    if Earlier(out).is_kept:
        return  # of an append that was interrupted
    begins = f"{WORK_FOLDER}/"
    if any(
        entry.path.startswith(begins)
        for entry in out.walk(hidden=True, enter=lambda path: f"{path}/".startswith(begins))
    ):
        with out.hold(LOCK):
            out.delete_folder(WORK_FOLDER)


def _make(
    out: Storage, plan: _Repair, numbers: list[int], hold: Hold, workers: int | None, ray_address: str | None
) -> None:
    with open_executor(
        out,
        plan,
        workers=workers,
        ray_address=ray_address,
        check=hold.check,
        writer=lambda number: partial(_rewrite, recorded=plan.recorded[number]),
    ) as executor:
        executor.finish(numbers)


def _plan(shards: Shards, inputs: Inputs, names: list[str]) -> _Repair:
    record = shards.record
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    wanted = pa.array([f"{name}.tar" for name in names])
    for batch in shards.manifest_batches(["shard", "key", "source", "source_sha256"]):
        for row in batch.filter(pc.is_in(batch["shard"], value_set=wanted)).to_pylist():
            rows[row["shard"].removesuffix(".tar")].append(row)
    now, then = implementation(record.settings), record.implementation
    changed = difference(then, now)
    hint = f"install the versions that made them ({'; '.join(changed)})" if changed else "shard into a new folder"
    recorded = [
        _Recorded(
            rows[name], _files_of(shards, name), record.settings_fingerprint, record.settings.samples_per_shard, hint
        )
        for name in names
    ]
    numbers = _numbers(inputs, [row["source"] for one in recorded for row in one.rows], shards.address)
    recipe = Recipe(inputs.storage, record.dataset, record.settings)
    return _Repair(recipe, record.settings_fingerprint, inputs, names, recorded, numbers)


def _files_of(shards: Shards, name: str) -> dict[str, str]:
    base = f"{SHARD_FOLDER}/{name}."
    return {path.removeprefix(base): sha256 for path, sha256 in shards.record.files.items() if path.startswith(base)}


def _numbers(inputs: Inputs, sources: list[str], out: str) -> dict[str, int]:
    """Each source's number among the inputs.

    Raises:
        WorkError: some are not there; names the first.
    """
    # of a name that an archive holds repeatedly, the copies without a place come first
    wanted = dict.fromkeys(sources)
    numbers = {path: number for number, path in enumerate(printable_paths(inputs)) if path in wanted}
    missing = [source for source in sources if source not in numbers]
    if missing:
        what = f"{len(missing)} pictures that are needed are no longer in the source, such as {missing[0]}"
        raise WorkError(what, where=out, hint="restore them, or shard into a new folder")
    return numbers


def _rewrite(out: Storage, name: str, parts: Iterable[Part], recorded: _Recorded) -> ShardFiles:
    """Write a shard's files if they are the recorded ones, to the last byte.

    Raises:
        WorkError: they are not; names the first source that has changed, if one has.
    """
    where = out.where(f"{SHARD_FOLDER}/{name}.tar")
    try:
        tar = write_tar(out, name, _unchanged(parts, recorded, where), expected=recorded.files.get("tar"))
    except ValueError:
        what = "cannot be repaired: the same pictures give another shard"
        raise WorkError(what, where=where, hint=recorded.hint) from None
    # how many inputs were rejected is in no other file; one number gives the recorded hash
    records = (
        tar.record(num_rejected, recorded.settings_fingerprint) for num_rejected in range(recorded.max_rejected + 1)
    )
    data = next(
        (data for data in map(record_bytes, records) if hashlib.sha256(data).hexdigest() == recorded.files["json"]),
        None,
    )
    if data is None:
        raise WorkError("cannot be repaired: its record would be another", where=where, hint=recorded.hint)
    if tar.index:
        out.write(f"{SHARD_FOLDER}/{name}.idx", tar.index)
    out.write(f"{SHARD_FOLDER}/{name}.json", data)
    return ShardFiles(name, {}, len(tar.rows), 0)


def _unchanged(parts: Iterable[Part], recorded: _Recorded, where: str) -> Iterable[Part]:
    """The parts, as long as their pictures are the recorded ones."""
    expected = {row["source"]: row["source_sha256"] for row in recorded.rows}
    hint = "restore the picture, or shard into a new folder"
    for part in parts:
        for rejection in part.rejected:
            what = f"cannot be repaired: {rejection.source} is rejected now ({rejection.reason})"
            raise WorkError(what, where=where, hint=hint)
        for row in part.rows:
            if row["source_sha256"] != expected[row["source"]]:
                what = f"cannot be repaired: {row['source']} has changed since"
                raise WorkError(what, where=where, hint=hint)
        yield part

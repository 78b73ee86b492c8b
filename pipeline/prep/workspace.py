"""OUT while it is being made: one writer, the plan it was begun with, and which shards an earlier run left."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vice.data_specs.command_line import command
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import canonical_json, difference
from vice.data_specs.shard_format import DATASET_FILE, MANIFEST_FILE, REJECTED_FILE, SHARD_FOLDER
from vice.pipeline.dataset_record import read_dataset_record
from vice.pipeline.prep.earlier import Earlier
from vice.pipeline.prep.inputs import printable_paths
from vice.pipeline.prep.kept_tars import KeptTars
from vice.pipeline.prep.path_sets import column_pieces, hashes
from vice.pipeline.prep.plan import Plan, settings_identity
from vice.pipeline.prep.shard import ROWS_FOLDER, WORK_FOLDER
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.local import LocalStorage

LOCK = f"{WORK_FOLDER}/lock"
_PLAN = f"{WORK_FOLDER}/plan.json"
_PIECE = 1 << 14
"""Paths that are Python objects at once."""
_NAMED = 5
"""Files that a message names; the rest are counted."""


class Workspace:
    """OUT, held by one writer, as a context manager.

    Args:
        out: the folder; made where it does not exist.
        plan: what is to be done in it.
        earlier: OUT as it is, where inputs are appended to a complete one.
        kept: listings of tars to be kept until OUT is complete.

    Raises:
        InputError: OUT is a file, lies in the source, is not ours, or was begun with another plan.
        WorkError: another run holds it.
    """

    def __init__(self, out: Storage, plan: Plan, earlier: Earlier | None = None, kept: KeptTars | None = None):
        self.out, self.plan, self.earlier, self._kept = out, plan, earlier, kept
        self._hold = out.hold(LOCK)
        self._stack = ExitStack()

    def refuse_unusable(self) -> None:
        """Refuse an OUT that cannot be used, before anything is started or locked.

        Raises:
            InputError: as when entered.
        """
        check_place(self.out, self.plan)
        begun = None if self.earlier else self._begun()
        if begun is not None:
            refuse_difference(begun, self.plan.identity(), self.out)

    def __enter__(self) -> Self:
        check_place(self.out, self.plan)
        with ExitStack() as stack:
            stack.enter_context(self._hold)
            if self.earlier:
                self._start_append(self.earlier)
            self._agree_on_plan()
            if isinstance(self.out, LocalStorage):
                self.out.clear_aside()
            if self._kept:
                self._kept.save()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _agree_on_plan(self) -> None:
        begun = self._begun()
        if begun is None:
            self.out.write(_PLAN, canonical_json(self.plan.identity()))
        else:
            refuse_difference(begun, self.plan.identity(), self.out)

    def _start_append(self, earlier: Earlier) -> None:
        """Keep what is there; an interrupted append of other inputs, or what a finished run left, is removed first."""
        if not earlier.is_kept or self._begun() not in (None, self.plan.identity()):
            earlier.undo()
            self.out.delete(_PLAN)
            self.out.delete_folder(ROWS_FOLDER)
        earlier.keep()

    def _begun(self) -> dict[str, Any] | None:
        try:
            return _parsed(self.out.read(_PLAN), self.out)
        except FileNotFoundError:
            return None

    def check(self) -> None:
        """Make sure that no other run has taken OUT.

        Raises:
            WorkError: one has.
        """
        self._hold.check()

    def begun_shards(self) -> list[int]:
        """Numbers of the shards that have a record: an earlier run made them."""
        name = re.compile(rf"{SHARD_FOLDER}/{re.escape(self.plan.settings.split)}-(\d+)\.json")
        found = (name.fullmatch(entry.path) for entry in self.out.walk())
        return sorted(int(match[1]) for match in found if match)

    def finish(self) -> None:
        """Remove what was only needed while OUT was being made."""
        self.out.delete_folder(WORK_FOLDER)

    def discard(self) -> None:
        """Remove everything this job wrote, so that OUT is as if it had not begun."""
        if self.earlier:
            self.earlier.undo()
            self.out.delete_folder(WORK_FOLDER)
            return
        for name in (MANIFEST_FILE, REJECTED_FILE):
            self.out.delete(name)
        self.out.delete_folder(SHARD_FOLDER)
        self.out.delete_folder(WORK_FOLDER)


def _parsed(plan: bytes, out: Storage) -> dict[str, Any]:
    try:
        return json.loads(plan)
    except ValueError:
        raise InputError("not readable as JSON", where=out.where(_PLAN), hint="shard into a new folder") from None


def check_place(out: Storage, plan: Plan) -> None:
    """Refuse an OUT that cannot be one.

    Raises:
        InputError: OUT is a file, lies in the source, or holds files that are not ours.
    """
    if isinstance(out, LocalStorage) and out.folder.exists() and not out.folder.is_dir():
        raise InputError("OUT is a file", where=out.address, hint="give a new folder")
    if plan.inputs.covers_root and _lies_in(out, plan.inputs.storage):
        raise InputError("OUT lies in the source folder", where=out.address, hint="give a folder outside it")
    if out.exists(DATASET_FILE) or out.exists(_PLAN):
        return
    foreign = next((entry.path for entry in _entries(out) if not entry.path.startswith(f"{WORK_FOLDER}/")), None)
    if foreign:
        raise InputError(f"OUT is not empty (holds {foreign})", where=out.address, hint="give a new or an empty folder")


def _entries(out: Storage) -> Iterable[Any]:
    if isinstance(out, LocalStorage) and not out.folder.exists():
        return ()
    return out.walk(hidden=True)


def _lies_in(out: Storage, source: Storage) -> bool:
    """Whether OUT is the source or lies below it."""
    if isinstance(out, LocalStorage) and isinstance(source, LocalStorage):
        return out.folder.resolve().is_relative_to(source.folder.resolve())
    return f"{out.address}/".startswith(f"{source.address.rstrip('/')}/")


def refuse_if_other(out: Storage, plan: Plan) -> None:
    """Refuse a complete OUT that was made with another plan; clear up where its last run was stopped at the very end.

    Raises:
        InputError: naming what differs in settings, dataset, implementation or inputs, or what is wrong with OUT.
    """
    record = read_dataset_record(out)
    begun = settings_identity(record.settings, record.dataset, record.implementation)
    ours = settings_identity(plan.settings, plan.spec, plan.implementation)
    had, have = hashes(_sources_in(out)), hashes(_pieces(printable_paths(plan.inputs)))
    refuse_difference(begun, ours, out)
    if not np.array_equal(had, have):
        raise _other_sources(out, plan)
    if not Earlier(out).is_kept:
        out.delete_folder(WORK_FOLDER)


def _other_sources(out: Storage, plan: Plan) -> InputError:
    """What was added and removed since OUT was made, by name, and what can be done."""
    had, have = _sorted(_sources_in(out)), _sorted(_pieces(printable_paths(plan.inputs)))
    gone, new = _beyond(had, have), _beyond(have, had)
    changes = [
        f"{len(paths)} {what} ({_first_names(paths)})"
        for paths, what in ((new, "added"), (gone, "removed"))
        if len(paths)
    ]
    append = command("vice-prep", "append", plan.source, out.address)
    hint = f"add the new ones with: {append}" if len(new) else "restore the source, or shard into a new folder"
    return InputError(f"the source has changed since OUT was made: {', '.join(changes)}", where=out.address, hint=hint)


def _first_names(paths: pa.Array) -> str:
    """Up to five paths."""
    names = ", ".join(paths[:_NAMED].to_pylist())
    return f"{names}, …" if len(paths) > _NAMED else names


def _sources_in(out: Storage) -> Iterator[list[str]]:
    """Sources of all samples and rejections, some at a time."""
    for name in (MANIFEST_FILE, REJECTED_FILE):
        try:
            with out.open(name) as file:
                yield from column_pieces(pq.ParquetFile(file).iter_batches(_PIECE, columns=["source"]), "source")
        except (OSError, pa.ArrowException, KeyError):
            hint = "shard again into a new folder"
            raise InputError("cannot be read", where=out.where(name), hint=hint) from None


def _pieces(paths: Iterator[str]) -> Iterator[list[str]]:
    return iter(lambda: list(itertools.islice(paths, _PIECE)), [])


def _sorted(pieces: Iterable[list[str]]) -> pa.Array:
    """Strings as a sorted array, without a list of them all."""
    joined = pa.concat_arrays([pa.array([], pa.large_string()), *(pa.array(one, pa.large_string()) for one in pieces)])
    return joined.take(pc.sort_indices(joined))


def _beyond(paths: pa.Array, others: pa.Array) -> pa.Array:
    """The paths that the others lack."""
    return paths.filter(pc.invert(pc.is_in(paths, value_set=others)))


def refuse_difference(begun: dict[str, Any], ours: dict[str, Any], out: Storage) -> None:
    """Refuse to go on in an OUT that was begun with another plan.

    Raises:
        InputError: naming what differs.
    """
    lines = difference(begun, ours)
    if lines:
        raise InputError(
            f"OUT was begun with other settings or inputs ({'; '.join(lines)})",
            where=out.address,
            hint="give the same ones, or a new folder",
        )

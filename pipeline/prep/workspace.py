"""OUT while it is being made: one writer, the plan it was begun with, and which shards are already whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.fingerprint import canonical_json, difference, sha256_file
from vice.data_specs.shard_format import (
    DATASET_FILE,
    MANIFEST_FILE,
    REJECTED_FILE,
    SHARD_FOLDER,
    ShardRecord,
    read_dataset_record,
)
from vice.pipeline.prep.plan import Plan, settings_identity
from vice.pipeline.prep.shard import read_rows, write_whole
from vice.pipeline.prep.sources import printable

WORK_FOLDER = ".vice-prep"
"""Hidden folder in OUT with lock, plan, rows and temporary files; gone once OUT is complete."""


class Workspace:
    """OUT, held by one writer, as a context manager.

    Args:
        out: the folder; made where it does not exist.
        plan: what is to be done in it.

    Raises:
        InputError: OUT is a file, lies in the source, is not ours, or was begun with another plan.
        WorkError: another run holds it.
    """

    def __init__(self, out: Path, plan: Plan):
        self.out, self.plan = out, plan
        self.work = out / WORK_FOLDER
        self.rows = self.work / "rows"
        self.shards = out / SHARD_FOLDER
        self._lock: int | None = None

    def __enter__(self) -> Self:
        check_place(self.out, self.plan.source)
        self.rows.mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(self.work / "lock", self.out)
        try:
            self._agree_on_plan()
        except BaseException:
            self._release()
            raise
        self.shards.mkdir(exist_ok=True)
        for left_over in self.rows.glob("*.tmp"):
            left_over.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _agree_on_plan(self) -> None:
        path = self.work / "plan.json"
        if not path.exists():
            write_whole(path, canonical_json(self.plan.identity()), temporary=self.rows)
            return
        refuse_difference(json.loads(path.read_bytes()), self.plan.identity(), self.out)

    def is_complete(self, number: int) -> bool:
        """Whether a shard is whole: its record fits its files' hashes and its rows are kept."""
        name = self.plan.shard(number)
        tar, index, record, rows = (
            self.shards / f"{name}.tar",
            self.shards / f"{name}.idx",
            self.shards / f"{name}.json",
            self.rows / f"{name}.json",
        )
        if not (record.is_file() and rows.is_file()):
            return False
        try:
            told = ShardRecord.model_validate_json(record.read_bytes())
        except ValidationError:
            return False
        ours = told.settings_fingerprint == self.plan.settings_fingerprint
        return ours and (told.tar_sha256, told.index_sha256) == (_sha256_if_there(tar), _sha256_if_there(index))

    def shard_rows(self, number: int) -> dict[str, list[dict[str, Any]]]:
        """Manifest rows (`samples`) and rejections (`rejected`) of a complete shard."""
        return read_rows(self.rows / f"{self.plan.shard(number)}.json")

    def write(self, name: str, data: bytes) -> None:
        """Write one of OUT's own files whole."""
        write_whole(self.out / name, data, temporary=self.rows)

    def finish(self) -> None:
        """Remove what was only needed while OUT was being made."""
        shutil.rmtree(self.work)

    def discard(self) -> None:
        """Remove everything this job wrote, so that OUT is as if it had not begun."""
        for name in (MANIFEST_FILE, REJECTED_FILE):
            (self.out / name).unlink(missing_ok=True)
        shutil.rmtree(self.shards)
        shutil.rmtree(self.work)


def check_place(out: Path, source: Path) -> None:
    """Refuse an OUT that cannot be one.

    Raises:
        InputError: OUT is a file, lies in the source, or holds files that are not ours.
    """
    if out.exists() and not out.is_dir():
        raise InputError("OUT is a file", where=out, hint="give a new folder")
    if out.resolve().is_relative_to(source.resolve()):
        raise InputError("OUT lies in the source folder", where=out, hint="give a folder outside it")
    if not out.exists() or (out / DATASET_FILE).exists() or (out / WORK_FOLDER / "plan.json").exists():
        return
    foreign = sorted(path.name for path in out.iterdir() if path.name != WORK_FOLDER)
    if foreign:
        raise InputError(f"OUT is not empty (holds {foreign[0]})", where=out, hint="give a new or an empty folder")


def refuse_if_other(out: Path, plan: Plan) -> None:
    """Refuse a complete OUT that was made with another plan; clear up where its last run was stopped at the very end.

    Raises:
        InputError: naming what differs in settings, dataset, implementation or inputs, or what is wrong with OUT.
    """
    record = read_dataset_record(out)
    begun = settings_identity(record.settings, record.dataset, record.implementation)
    ours = settings_identity(plan.settings, plan.spec, plan.implementation)
    had = {source for name in (MANIFEST_FILE, REJECTED_FILE) for source in _sources(out / name)}
    have = {printable(path) for path in plan.order}
    if had != have:
        begun["inputs"] = {"number": len(had), "gone": min(had - have, default=None)}
        ours["inputs"] = {"number": len(have), "new": min(have - had, default=None)}
    refuse_difference(begun, ours, out)
    shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)


def _sources(table: Path) -> list[str]:
    try:
        return pq.read_table(table, columns=["source"])["source"].to_pylist()
    except (OSError, pa.ArrowException, KeyError):
        raise InputError("cannot be read", where=table, hint="shard again into a new folder") from None


def refuse_difference(begun: dict[str, Any], ours: dict[str, Any], out: Path) -> None:
    """Refuse to go on in an OUT that was begun with another plan.

    Raises:
        InputError: naming what differs.
    """
    lines = difference(begun, ours)
    if lines:
        raise InputError(
            f"OUT was begun with other settings or inputs ({'; '.join(lines)})",
            where=out,
            hint="give the same ones, or a new folder",
        )


def _sha256_if_there(path: Path) -> str:
    """sha256 of a file; a shard without samples has no tar and no index, which counts as no bytes."""
    return sha256_file(path) if path.is_file() else hashlib.sha256(b"").hexdigest()


def _take_lock(path: Path, out: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A run that finished in between has removed the file that we hold.
        if not path.exists() or os.fstat(lock).st_ino != path.stat().st_ino:
            raise BlockingIOError
    except BlockingIOError:
        os.close(lock)
        raise WorkError("another run is writing there", where=out, hint="wait until it ends") from None
    return lock

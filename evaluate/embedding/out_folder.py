"""The folder that an embedding job writes: one writer, files whole or absent, the same source when it is resumed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vice.data_specs.errors import InputError

LOCK_FILE = ".lock"
_DAMAGED = "give a new folder"
_LONGEST_NAME = 240
"""Bytes of a name without its suffix: file systems take 255, of which a suffix and a temporary name need some."""


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make the folder and be its only writer.

    Raises:
        InputError: it cannot be made, or another process is writing there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK_FILE).open("w")
    except OSError as error:
        raise InputError(f"cannot be made ({error.strerror})", where=out, hint="give another folder") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("another process is writing there", where=out, hint="wait for it") from None
        yield


def check_is_new(out: Path) -> None:
    """Refuse a folder that holds files of something else.

    Raises:
        InputError: it is not empty.
    """
    if any(entry.name != LOCK_FILE for entry in out.iterdir()):
        raise InputError("holds other files", where=out, hint="give a new folder")


def check_room(out: Path, num_bytes: int) -> None:
    """Refuse a disk that cannot hold what will be written.

    Raises:
        InputError: it has less room: says how much is needed and how much is free.
    """
    free = shutil.disk_usage(out).free
    if num_bytes > free:
        what = f"about {num_bytes / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free"
        raise InputError(what, where=out, hint="give a folder on a larger disk")


def file_of(folder: Path, key: str, suffix: str) -> Path:
    """The file of a picture: its key below the folder, with the suffix.

    Parts of a key that would make a file name longer than file systems take are cut; they end with `~` and 16 digits of
    their sha256, which keep them apart.
    """
    *folders, name = key.split("/")
    return folder.joinpath(*(_short(part) for part in folders), _short(name) + suffix)


def _short(name: str) -> str:
    encoded = name.encode()
    if len(encoded) <= _LONGEST_NAME:
        return name
    kept = encoded[: _LONGEST_NAME - 17].decode(errors="ignore")
    return f"{kept}~{hashlib.sha256(encoded).hexdigest()[:16]}"


@contextmanager
def whole_file(path: Path, *, flush: bool = False) -> Iterator[Path]:
    """A name to write to; renamed to the wanted one when all is written, removed when something failed.

    Args:
        path: the file; its folder is made.
        flush: bring the bytes to the disk before the file gets its name, and the name after.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        if flush:
            _to_disk(temporary)
        temporary.rename(path)
        if flush:
            _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A record that `write_json` wrote.

    Raises:
        InputError: it is damaged.
    """
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"is damaged ({error})", where=path, hint=_DAMAGED) from None
    if not isinstance(data, dict):
        raise InputError("is damaged (not an object)", where=path, hint=_DAMAGED)
    return data


def write_json(path: Path, data: dict[str, Any], *, flush: bool = False) -> None:
    """Write a record as JSON, whole or not at all."""
    with whole_file(path, flush=flush) as temporary:
        temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

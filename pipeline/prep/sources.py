"""The inputs of a job: every file of a folder tree, in an order that is fixed before work starts."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint

ORDER_VERSION = "philox-argsort 1"


@dataclass(frozen=True)
class Inputs:
    """What a source folder holds."""

    paths: list[str]
    """Inputs relative to the folder, `/` between parts, sorted by their bytes."""
    fingerprint: str
    """Of the paths and sizes of all files, and of the ids that the split lists."""


def find_inputs(source: Path, spec: DatasetSpec, split: str | None = None) -> Inputs:
    """List every regular file under `source` that is not hidden and, by the spec, an input of the split.

    Links are followed; a folder reached twice through links is taken once, under its first path.

    Raises:
        InputError: no such source, not a folder, not readable, no such split, no input in it, or not the dataset.
    """
    if not source.exists():
        raise InputError("no such source", where=source, hint=spec.source or "give a folder of pictures")
    if not source.is_dir():
        raise InputError("the source is no folder", where=source, hint="give the folder that the pictures are in")
    sizes = _file_sizes(source)
    selection = spec.selection(split, lambda path: (source / path).read_text(encoding="utf-8"))
    paths = [path for path in sizes if selection.is_input(path)]
    selection.check_present(paths, sizes, where=source)
    if not paths:
        hint = "hidden files and label maps do not count" if sizes else "give the folder that the pictures are in"
        raise InputError("no pictures in the source folder", where=source, hint=hint)
    files = [[printable(path), size] for path, size in sizes.items()]
    return Inputs(paths, fingerprint(files + selection.identity()))


def shuffled(paths: list[str], seed: int) -> list[str]:
    """The paths in the seeded order in which they fill the shards: neighbours in a video end far apart."""
    key = int.from_bytes(hashlib.sha256(f"vice.prep.order:{seed}".encode()).digest()[:16], "little")
    draws = np.random.Philox(key=key).random_raw(len(paths))
    return [paths[i] for i in np.argsort(draws, kind="stable")]


def printable(path: str) -> str:
    """A path as it stands in records: bytes of a file name that are no UTF-8 become `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _file_sizes(source: Path) -> dict[str, int]:
    """Size in bytes of every file that is not hidden, by relative path, sorted; -1 for a link that leads nowhere."""
    found: dict[str, int] = {}
    seen: set[str] = set()
    for folder, folders, files in os.walk(source, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted((name for name in folders if name[0] != "."), key=os.fsencode)
        if real in seen:
            continue
        seen.add(real)
        for name in files:
            size = None if name[0] == "." else _regular_size(Path(folder) / name)
            if size is not None:
                found[(Path(folder) / name).relative_to(source).as_posix()] = size
    return dict(sorted(found.items(), key=lambda item: os.fsencode(item[0])))


def _regular_size(path: Path) -> int | None:
    try:
        status = path.stat()
    except OSError:
        return -1
    # Opening a pipe would wait for ever.
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _unreadable(error: OSError) -> None:
    raise InputError(f"cannot list a folder of the source ({error.strerror})", where=error.filename) from None

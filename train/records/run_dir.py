"""A run's folder: its resolved configuration, and the refusal of another one."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import difference
from vice.data_specs.validation import parse
from vice.train.config import TrainConfig
from vice.train.records.failure import FAILURE_FILE
from vice.train.records.upgrade import upgraded_config

CONFIG_FILE = "config.json"
SHARDS_FILE = "shards.json"
"""Which version of the shards the run trains on."""
CHECKPOINT_FOLDER = "checkpoints"
LAST = "last.pt"
_ASIDE = ".config."
_LOCK = ".lock"


def read_run_config(run_dir: Path) -> TrainConfig:
    """The resolved configuration of a run.

    Raises:
        InputError: there is none, or it is not valid.
    """
    path = run_dir / CONFIG_FILE
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError("not a run", where=run_dir, hint="start one with vice-train launch") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError("not readable as JSON", where=path, hint="use another --run-dir") from None
    return parse(TrainConfig, upgraded_config(data) if isinstance(data, dict) else data, where=path)


def with_run_precision(config: TrainConfig, run_dir: Path) -> TrainConfig:
    """The configuration with the arithmetic that a run was started with, where `auto` leaves it open.

    Raises:
        InputError: the run's configuration is not valid.
    """
    if config.precision != "auto" or not (run_dir / CONFIG_FILE).exists():
        return config
    return config.model_copy(update={"precision": read_run_config(run_dir).precision})


def check_run(run_dir: Path, config: TrainConfig) -> None:
    """Check that a run's folder is new, empty, or of this configuration.

    Raises:
        InputError: the folder holds something else, or a run of another configuration; names the difference.
    """
    if (run_dir / CONFIG_FILE).exists():
        changed = difference(read_run_config(run_dir).identity, config.identity)
        if changed:
            hint = "use another --run-dir, or the run's own settings"
            raise InputError(f"{run_dir} is a run of another configuration", where="; ".join(changed), hint=hint)
    elif run_dir.exists() and (not run_dir.is_dir() or not all(_is_ours(path.name) for path in run_dir.iterdir())):
        raise InputError("not empty and not a run", where=run_dir, hint="give a new folder as --run-dir")


def _is_ours(name: str) -> bool:
    """Whether a folder with this file may be about to become a run; another process may just be making it one."""
    return name == CONFIG_FILE or name.startswith((_ASIDE, FAILURE_FILE))


def resume_point(run_dir: Path) -> str:
    """Where a launch goes on from, in words and by the names of files alone."""
    folder = run_dir / CHECKPOINT_FOLDER
    last = folder / LAST
    if not last.exists():
        return "the beginning"
    # last.pt is a second name of a numbered checkpoint
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        if path.samefile(last):
            return f"step {int(path.stem.removeprefix('step-'))}"
    return f"{CHECKPOINT_FOLDER}/{LAST}"


def open_run(run_dir: Path, config: TrainConfig) -> None:
    """Make the run's folder with its config.json, or check that it is this configuration's; a new cache is noted.

    Raises:
        InputError: see `check_run`.
    """
    check_run(run_dir, config)
    path = run_dir / CONFIG_FILE
    if path.exists() and read_run_config(run_dir) == config:
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    # launchers of several nodes may do this at the same time
    aside = run_dir / f"{_ASIDE}{secrets.token_hex(4)}.tmp"
    with aside.open("w", encoding="utf-8") as file:
        file.write(config.model_dump_json(indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)


@contextmanager
def hold_run(run_dir: Path) -> Iterator[None]:
    """Be the only one that trains in a run's folder; the lock ends with the process.

    Raises:
        InputError: another process does.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "wait for it or stop it, or use another --run-dir"
            raise InputError("another process trains in this run", where=run_dir, hint=hint) from None
        yield

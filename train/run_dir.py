"""A run's folder: its resolved configuration, and the refusal of another one."""

from __future__ import annotations

import json
import os
from pathlib import Path

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import difference
from vice.data_specs.validation import parse
from vice.train.config import TrainConfig

CONFIG_FILE = "config.json"
_ASIDE = "config.tmp"


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
    return parse(TrainConfig, data, where=path)


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
    elif run_dir.exists() and (not run_dir.is_dir() or any(path.name != _ASIDE for path in run_dir.iterdir())):
        raise InputError("not empty and not a run", where=run_dir, hint="give a new folder as --run-dir")


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
    aside = run_dir / _ASIDE
    with aside.open("w", encoding="utf-8") as file:
        file.write(config.model_dump_json(indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)

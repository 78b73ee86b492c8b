"""Which version of the shards a run trains on: inputs that are appended meanwhile belong to later runs."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from vice.data_specs.errors import InputError
from vice.pipeline.shards import Shards
from vice.train.records.run_dir import CHECKPOINT_FOLDER, LAST, SHARDS_FILE


def note_shards(run_dir: Path, shards: Shards) -> None:
    """Note the version that a new run starts with; a run that has begun keeps its own."""
    path = run_dir / SHARDS_FILE
    if path.exists() or (run_dir / CHECKPOINT_FOLDER / LAST).exists():
        return
    record = shards.record
    about = {"fingerprint": record.fingerprint, "data_version": record.data_version, "num_samples": len(shards)}
    # launchers of several nodes may do this at the same time
    temporary = run_dir / f".{SHARDS_FILE}.{secrets.token_hex(4)}.tmp"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(about, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def shards_of_run(run_dir: Path, shards: Shards) -> Shards:
    """The shards in the version that a run started with.

    Args:
        run_dir: the run's folder, which may be new.
        shards: as they are now.

    Raises:
        InputError: the run's note cannot be read.
    """
    path = run_dir / SHARDS_FILE
    try:
        noted = json.loads(path.read_bytes())["fingerprint"]
    except FileNotFoundError:
        return shards
    except (ValueError, KeyError, TypeError):
        raise InputError("not readable as JSON", where=path, hint="use another --run-dir") from None
    return shards.as_of(noted)

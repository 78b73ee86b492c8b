"""A run's known failure as a file: what one process found out, for the launcher, the other processes and a restart.

Without torch: a restarted process reads it before anything heavy is imported.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from vice.data_specs.errors import InputError, ViceError, WorkError

FAILURE_FILE = "failure.json"


def write_failure(run_dir: Path, error: ViceError) -> bool:
    """Leave a known error as the run's failure, unless one is there: the first one is the cause of those after it.

    Args:
        run_dir: the run's folder.
        error: what ended this process.

    Returns:
        whether the run has a record now; False where it cannot be written, as on a full disk.
    """
    path = run_dir / FAILURE_FILE
    rank = int(os.environ.get("RANK", 0))
    record = {
        "type": type(error).__name__,
        "message": error.what,
        "where": None if error.where is None else str(error.where),
        "hint": error.hint,
        "exit_code": error.exit_code,
        "rank": rank,
    }
    # several processes may fail at the same time
    aside = run_dir / f"{FAILURE_FILE}.{rank}.tmp"
    try:
        if not path.exists():
            aside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            aside.rename(path)
    except OSError:
        return False
    return True


def read_failure(run_dir: Path) -> ViceError | None:
    """The run's failure as the error that it was; None where there is none."""
    try:
        record = json.loads((run_dir / FAILURE_FILE).read_bytes())
        kind = InputError if record["exit_code"] == InputError.exit_code else WorkError
        return kind(record["message"], where=record["where"], hint=record["hint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def clear_failure(run_dir: Path) -> None:
    """Forget an earlier launch's failure."""
    (run_dir / FAILURE_FILE).unlink(missing_ok=True)


def num_restarts() -> int:
    """How often this process's launcher has started its processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def failure_before_restart(run_dir: Path) -> ViceError | None:
    """The known failure that a restarted process would run into again; None where the processes simply died."""
    return read_failure(run_dir) if num_restarts() else None

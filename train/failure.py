"""A known failure of a training process, kept in the run's folder: the launcher tells it, restarted ones heed it.

Light to import: a restarted process looks here before it imports torch.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from vice.data_specs.errors import InputError, ViceError, WorkError

FAILURE_FILE = "failure.json"
_KINDS = {kind.__name__: kind for kind in (InputError, WorkError)}


def record_failure(run_dir: Path, error: ViceError) -> None:
    """Keep an error that would only come again; the first one of several processes stays."""
    content = {
        "kind": "InputError" if isinstance(error, InputError) else "WorkError",
        "what": error.what,
        "where": None if error.where is None else str(error.where),
        "hint": error.hint,
        "rank": int(os.environ.get("RANK", 0)),
    }
    aside = run_dir / f".failure-{os.getpid()}.tmp"
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    try:
        # unlike a rename, a link never replaces what another process has written
        (run_dir / FAILURE_FILE).hardlink_to(aside)
    except FileExistsError:
        pass
    finally:
        aside.unlink()


def read_failure(run_dir: Path) -> ViceError | None:
    """The error that ended the run's processes, if it was a known one."""
    try:
        content = json.loads((run_dir / FAILURE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return _KINDS[content["kind"]](content["what"], where=content["where"], hint=content["hint"])


def clear_failure(run_dir: Path) -> None:
    """Forget the failure of an earlier launch: what caused it may have been mended."""
    (run_dir / FAILURE_FILE).unlink(missing_ok=True)

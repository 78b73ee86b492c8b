"""`vice-train launch` as a process of its own, whose training processes leave a record and die on demand."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tiny_run import TINY

COMMAND = Path(sys.executable).parent / "vice-train"
HOOKS = Path(__file__).parent / "train" / "hooks"


class Launches:
    """Launches of one run.

    Args:
        folder: for the configuration, the run, and the record of training processes.
        shards: what to train on.
        changes: to the tiny configuration.
    """

    def __init__(self, folder: Path, shards: Path, **changes):
        self.run_dir, self._record, self._shards = folder / "run", folder / "record.jsonl", shards
        self._config = folder / "tiny.yaml"
        # JSON is YAML
        self._config.write_text(json.dumps({**TINY, **changes}))

    def start(self, *options: str, plan: dict[str, str] | None = None, keys: bool = False, **variables: str):
        """Start a launch; see `hooks/sitecustomize.py` for plan and keys."""
        paths = [str(HOOKS), *filter(None, [os.environ.get("PYTHONPATH")])]
        hook = {
            "HOOK_FILE": str(self._record),
            "HOOK_PLAN": json.dumps(plan or {}),
            **({"HOOK_KEYS": "1"} if keys else {}),
        }
        return subprocess.Popen(
            [COMMAND, "launch", self._config, "--shards", self._shards, "--run-dir", self.run_dir, *options],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **hook, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, *options: str, **settings) -> tuple[int, list[str]]:
        """A launch's exit code and the lines that it said on stderr."""
        process = self.start(*options, **settings)
        _, said = process.communicate(timeout=200)
        return process.returncode, said.splitlines()

    def record(self) -> list[dict]:
        """What training processes left, of all launches."""
        return [json.loads(line) for line in self._record.read_text().splitlines()] if self._record.exists() else []

    def clear_record(self) -> None:
        """Begin a new record."""
        self._record.unlink(missing_ok=True)

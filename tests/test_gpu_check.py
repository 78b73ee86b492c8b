"""`make gpu-check` where there is no GPU: every row says so, and the dated files are written."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.py"


def test_without_a_gpu_every_row_says_that_it_was_not_measured(tmp_path):
    command = [sys.executable, SCRIPT, "--output", tmp_path / "found"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    (record,), (table,) = ((tmp_path / "found").glob(f"*.{kind}") for kind in ("json", "md"))
    rows = json.loads(record.read_text())["rows"]
    assert len(rows) == 9
    assert {row["measured"] for row in rows} == {"not measured (no NVIDIA GPU)"}
    assert table.read_text() == done.stdout

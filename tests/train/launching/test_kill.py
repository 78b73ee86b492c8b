"""kill -9 at any step, of a training process or of the launcher while a checkpoint is written, changes no bit."""

import json
import os
import time

import pytest
import torch
from launching import Launches
from tiny_run import TINY

from vice.train.config import TrainConfig
from vice.train.launching.worker import work
from vice.train.records.checkpoint import read_checkpoint


@pytest.fixture
def uninterrupted(scene_shards, tmp_path):
    """The checkpoint of a run that nothing befell."""
    threads = torch.get_num_threads()
    work(TrainConfig(**TINY), scene_shards["train"], tmp_path / "whole")
    torch.set_num_threads(threads)
    return read_checkpoint(tmp_path / "whole" / "checkpoints" / "last.pt").state


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_killed_twice_equals_uninterrupted(scene_shards, tmp_path, uninterrupted):
    launches = Launches(tmp_path, scene_shards["train"])
    checkpoints = launches.run_dir / "checkpoints"
    # the process is killed after step 3; what the launcher starts again loses its launcher while it saves step 4
    code, said = launches.finish(plan={"0": "batch:3", "1": "save:4"})
    assert code == -9
    assert said == ["vice-train: a process died; restart 1 of 3, from step 2"]
    processes = [line["pid"] for line in launches.record() if line.get("event") == "start"]
    assert len(processes) == 2
    since = time.monotonic()
    while any(map(is_alive, processes)):
        assert time.monotonic() - since < 10, "a training process outlives its launcher"
        time.sleep(0.05)
    assert sorted(path.name for path in checkpoints.iterdir()) == [".writing.tmp", "last.pt", "step-00000002.pt"]
    assert read_checkpoint(checkpoints / "last.pt").info.step == 2

    code, said = launches.finish()
    assert (code, said) == (0, [])
    assert ".writing.tmp" not in [path.name for path in checkpoints.iterdir()]
    state = read_checkpoint(checkpoints / "last.pt").state
    assert state["step"] == uninterrupted["step"] == 6
    assert all(torch.equal(value, state["model"][name]) for name, value in uninterrupted["model"].items())
    assert torch.equal(state["assignment"]["queue"], uninterrupted["assignment"]["queue"])
    metrics = (launches.run_dir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]

"""One run on two processes, then one, then two, stopped in between: no sample is lost or repeated."""

import time

import torch
from launching import Launches
from tiny_run import TINY

from vice.pipeline.shards import Shards
from vice.train.batches import make_loader
from vice.train.config import TrainConfig
from vice.train.distributed import Process

CHANGES = {"global_batch": 4, "epochs": 2.4}


def keys_of_one_process(shards):
    """Keys of the run's six steps, which cross the borders of its epochs of ten pictures."""
    loader = make_loader(TrainConfig(**TINY | CHANGES, reader="plain"), shards, Process(0, 1, torch.device("cpu")))
    return [sorted(next(loader).keys) for _ in range(6)]


def steps_of(launches):
    """World size and keys by step of the record's one launch; the record begins anew."""
    lines = [line for line in launches.record() if "keys" in line]
    launches.clear_record()
    steps = {line["step"]: [] for line in lines}
    for line in lines:
        steps[line["step"]] += line["keys"]
    return {line["world_size"] for line in lines}, {step: sorted(keys) for step, keys in steps.items()}


def wait_for(launches, event, times):
    since = time.monotonic()
    while [line.get("event") for line in launches.record()].count(event) < times:
        assert time.monotonic() - since < 200
        time.sleep(0.1)


def test_two_then_one_then_two_processes_take_every_sample_once(scene_shards, tmp_path):
    launches = Launches(tmp_path, scene_shards["train"], **CHANGES)
    expected = keys_of_one_process(Shards(scene_shards["train"]))

    # the checkpoint is of step 2, and one step after it is done, when the launcher is told to end
    process = launches.start("--nproc", "2", plan={"0": "wait:3"}, keys=True)
    wait_for(launches, "wait", 2)
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert said.splitlines() == ["vice-train: error: ended by SIGTERM; launch again to go on from step 2"]
    assert steps_of(launches) == ({2}, {step: expected[step] for step in (0, 1, 2)})

    code, said = launches.finish("--nproc", "1", "--max-restarts", "0", plan={"0": "batch:5"}, keys=True)
    assert code == 1 and len(said) == 1
    assert "process 0 was killed by SIGKILL" in said[0] and "launch again to go on from step 4" in said[0]
    assert steps_of(launches) == ({1}, {step: expected[step] for step in (2, 3, 4)})

    assert launches.finish("--nproc", "2", keys=True) == (0, [])
    assert steps_of(launches) == ({2}, {step: expected[step] for step in (4, 5)})

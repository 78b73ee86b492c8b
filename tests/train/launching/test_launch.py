"""What a launch says when it cannot go on: one line; processes that die are started again, known failures are not."""

import json
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from launching import Launches
from tiny_run import TINY

from vice.data_specs.errors import InputError, WorkError
from vice.pipeline.shards import Shards
from vice.train import distributed
from vice.train.config import TrainConfig
from vice.train.launching import launch as launching
from vice.train.records.failure import FAILURE_FILE, clear_failure, read_failure, write_failure
from vice.train.records.run_dir import check_run


def launch(shards, run_dir, *, num_processes=None, nodes="1", endpoint=""):
    config = TrainConfig(**TINY)
    settings = {"num_processes": num_processes, "nodes": nodes, "endpoint": endpoint, "max_restarts": 0}
    launching.launch(config, str(shards), run_dir, **settings)


def test_processes_that_die_again_and_again_end_the_launch(scene_shards, tmp_path):
    launches = Launches(tmp_path, scene_shards["train"])
    code, said = launches.finish("--max-restarts", "1", plan={"0": "start", "1": "start"})
    assert code == 1
    killed = "process 0 was killed by SIGKILL, as the system does when memory runs out"
    assert said == [f"vice-train: error: {killed}: no restart left of 1; launch again to go on from the beginning"]
    assert [line["restarts"] for line in launches.record()] == [0, 1]


def damage_one_sample(folder):
    """Flip a bit in the picture of the second shard's third sample; returns its key."""
    shards = Shards(folder)
    offset, size = shards._places("train-000001.tar")[2]["jpg"]
    tar = folder / "shards" / "train-000001.tar"
    content = bytearray(tar.read_bytes())
    content[offset + size * 4 // 5] ^= 8
    tar.write_bytes(content)
    return shards.keys[4 + 2]


def test_a_known_failure_is_told_once_and_never_tried_again(scene_shards, tmp_path):
    shutil.copytree(scene_shards["train"], tmp_path / "shards")
    key = damage_one_sample(tmp_path / "shards")
    launches = Launches(tmp_path, tmp_path / "shards")
    code, said = launches.finish("--nproc", "2")
    assert code == 1 and len(said) == 1, said
    assert "was changed" in said[0] and f"train-000001.tar, key {key}" in said[0]
    starts = [line for line in launches.record() if line.get("event") == "start"]
    ends = [line for line in launches.record() if line.get("event") == "end" and line["restarts"]]
    # started again three times, to end at once: before torch is imported
    assert {line["restarts"] for line in starts} == {0, 1, 2, 3}
    assert ends and not any(line["torch"] for line in ends)
    failure = json.loads((launches.run_dir / FAILURE_FILE).read_text())
    assert failure["type"] == "WorkError" and failure["exit_code"] == 1 and failure["rank"] in {0, 1}


def test_a_worker_is_light():
    code = "import vice.train.launching.worker, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_failure_as_a_file(tmp_path):
    run_dir = tmp_path / "run"
    assert not write_failure(run_dir, WorkError("nowhere to write"))
    run_dir.mkdir()
    assert read_failure(run_dir) is None
    assert write_failure(run_dir, InputError("bad shard", where=tmp_path, hint="make it again"))
    # what others find out after the first is its consequence
    assert write_failure(run_dir, WorkError("the others are gone"))
    failure = read_failure(run_dir)
    assert isinstance(failure, InputError) and failure.line() == f"bad shard: {tmp_path}; make it again"
    assert [path.name for path in run_dir.iterdir()] == [FAILURE_FILE]
    check_run(run_dir, TrainConfig(**TINY))
    clear_failure(run_dir)
    assert read_failure(run_dir) is None


def test_nodes_and_endpoints_that_cannot_be(scene_shards, tmp_path, monkeypatch):
    shards = scene_shards["train"]
    for nodes in ("0", "2:1", "two"):
        with pytest.raises(InputError, match=f"--nnodes {nodes}; write N or MIN:MAX"):
            launch(shards, tmp_path / "run", nodes=nodes)
    with pytest.raises(InputError, match="--nnodes 2 without --endpoint"):
        launch(shards, tmp_path / "run", nodes="2")
    with pytest.raises(InputError, match="not an address: --endpoint node1"):
        launch(shards, tmp_path / "run", nodes="2", endpoint="node1")
    with pytest.raises(InputError, match=r"no such host: --endpoint no\.such\.host\.invalid:29400"):
        launch(shards, tmp_path / "run", nodes="2", endpoint="no.such.host.invalid:29400")
    assert not (tmp_path / "run").exists()


def test_an_endpoint_that_does_not_answer(scene_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "MEETING_SECONDS", 2)
    # an address for documentation only (RFC 5737): nobody has it
    with pytest.raises(WorkError, match=r"did not meet.*--endpoint 192\.0\.2\.1:29400; start the same command"):
        launch(scene_shards["train"], tmp_path / "run", nodes="2", endpoint="192.0.2.1:29400")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=f"another program listens: --endpoint {endpoint}"):
            launch(scene_shards["train"], tmp_path / "run", nodes="2", endpoint=endpoint)


def test_processes_that_cannot_meet(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(distributed, "MEETING_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in process.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WorkError, match=f"the processes cannot meet: 127.0.0.1:{port}; MASTER_ADDR must be"):
        distributed.start()


def test_more_processes_than_gpus(scene_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="--nproc 3 on a machine with 2 GPUs; give 2 or fewer"):
        launch(scene_shards["train"], tmp_path / "run", num_processes=3)
    assert not (tmp_path / "run").exists()
    # Slurm may show each process no GPU but its own
    assert [distributed.gpu_of(*given) for given in ((3, 4), (3, 1), (0, 2))] == [3, 0, 0]
    with pytest.raises(InputError, match="no GPU for process 2"):
        distributed.gpu_of(2, 2)


def test_processes_of_their_own_in_each_of_srun_s_tasks_are_refused(scene_shards, tmp_path, monkeypatch):
    task = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}
    for name, value in task.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="--nproc 2 in each of 2 tasks of srun"):
        launch(scene_shards["train"], tmp_path / "run", num_processes=2)

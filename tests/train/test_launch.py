"""The real command: killed workers and killed launchers end with the weights of an undisturbed run, to the bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vice.train.checkpoint import read_checkpoint

CONFIG = """
name: killed
model: {encoder: regnetx_002, decoder_channels: 64, embedding_dim: 16}
views: {num_views: 2, size: 64, regions: "slic:12"}
assignment: {num_concepts: 8, queue_length: 40, freeze_concepts_steps: 1}
optimiser: {name: adamw, learning_rate: 1.0e-3}
global_batch: 2
epochs: 3
checkpoint_every: 3
keep_checkpoints: 99
log_every: 1
reader: plain
pictures_every: 0
"""
STEPS = 15
HELD = """
# imported by every Python of the test: training stands still after some steps until it is told to go on
import os, sys, time
if "vice.train.worker" in sys.orig_argv:
    import vice.train.loop as loop
    plain = loop.update
    def held(state, rate):
        while state.step in (5, 13) and not os.path.exists(os.path.join(os.environ["GO_ON"], str(state.step))):
            time.sleep(0.05)
        plain(state, rate)
    loop.update = held
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "killed.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def held(tmp_path):
    """An environment in which runs stand still after steps 5 and 13 until a file `go-on/STEP` is there."""
    folder = tmp_path / "go-on"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HELD)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "GO_ON": str(folder)}


def command(config, shards, run_dir, *more):
    main = "from vice.train.cli import main; main()"
    return [sys.executable, "-c", main, "launch", config, "--shards", shards, "--run-dir", run_dir, *more]


def start(*arguments, env):
    return subprocess.Popen(
        [str(part) for part in command(*arguments)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_step(run_dir: Path, step: int, launcher) -> None:
    """Until metrics.jsonl tells of that step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and launcher.poll() is None:
        if (run_dir / "metrics.jsonl").exists() and f'"step": {step},' in (run_dir / "metrics.jsonl").read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"no step {step}: {launcher.communicate()[0]}")


def workers_of(launcher) -> list[int]:
    """Process ids of its training processes."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if b"vice.train.worker" in arguments and parent == str(launcher.pid):
                found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def undisturbed(config, scene_shards, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    launcher = start(config, scene_shards["train"], run_dir, env=os.environ)
    output = launcher.communicate(timeout=200)[0]
    assert launcher.returncode == 0 and f"trained killed: {STEPS} of {STEPS} steps" in output, output
    return run_dir


def assert_equal_runs(run_dir, expected):
    ours, theirs = (read_checkpoint(folder / "checkpoints" / "last.pt").state for folder in (run_dir, expected))
    assert ours["step"] == STEPS
    assert all(torch.equal(value, ours["model"][name]) for name, value in theirs["model"].items())
    assert torch.equal(ours["assignment"]["queue"], theirs["assignment"]["queue"])
    steps = [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))


def test_a_killed_worker_is_started_again_and_a_killed_launcher_goes_on(
    config, scene_shards, held, undisturbed, tmp_path
):
    run_dir = tmp_path / "run"
    launcher = start(config, scene_shards["train"], run_dir, env=held)
    wait_for_step(run_dir, 5, launcher)
    (worker,) = workers_of(launcher)
    (tmp_path / "go-on" / "5").touch()
    os.kill(worker, signal.SIGKILL)
    wait_for_step(run_dir, 13, launcher)
    (worker,) = workers_of(launcher)
    second = start(config, scene_shards["train"], run_dir, env=os.environ)
    assert "another process trains in this run" in second.communicate(timeout=100)[0] and second.returncode == 2
    launcher.kill()
    said = launcher.communicate(timeout=30)[0]  # ends when the worker, too, has closed it
    assert not Path(f"/proc/{worker}").exists()
    assert "a process has died: restart 1 of 3, from step 3" in said
    # a checkpoint that was cut while it was written, as a kill at that moment leaves it
    newest = max((run_dir / "checkpoints").glob("step-*.pt"))
    (run_dir / "checkpoints" / ".writing.tmp").write_bytes(newest.read_bytes()[:1000])
    launcher = start(config, scene_shards["train"], run_dir, env=os.environ)
    said = launcher.communicate(timeout=200)[0]
    assert launcher.returncode == 0, said
    assert_equal_runs(run_dir, undisturbed)
    assert not (run_dir / "checkpoints" / ".writing.tmp").exists()


def test_the_limit_of_restarts_and_a_stop_are_one_line_each(config, scene_shards, held, tmp_path):
    run_dir = tmp_path / "run"
    launcher = start(config, scene_shards["train"], run_dir, "--max-restarts", 0, env=held)
    wait_for_step(run_dir, 5, launcher)
    (tmp_path / "go-on" / "5").touch()
    os.kill(workers_of(launcher)[0], signal.SIGKILL)
    last = launcher.communicate(timeout=60)[0].strip().splitlines()[-1]
    assert launcher.returncode == 1
    assert last.startswith("vice-train: error: a training process died, after 0 restarts")
    assert last.endswith("process 0, killed by SIGKILL; launch again to go on from the last checkpoint")
    launcher = start(config, scene_shards["train"], run_dir, env=held)
    wait_for_step(run_dir, 13, launcher)
    (worker,) = workers_of(launcher)
    launcher.send_signal(signal.SIGTERM)
    said = launcher.communicate(timeout=60)[0].strip().splitlines()
    assert launcher.returncode == 1 and "stopped by SIGTERM" in said[-1] and "launch again to go on" in said[-1], said
    assert "Traceback" not in "".join(said) and not Path(f"/proc/{worker}").exists()
    assert read_checkpoint(run_dir / "checkpoints" / "last.pt").info.step == 12


def test_a_known_failure_is_not_tried_again(config, scene_shards, tmp_path):
    """The last checkpoint is of another configuration: found by the worker, after its start."""
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "config.json").write_text("{}")
    launcher = start(config, scene_shards["train"], run_dir, env=os.environ)
    said = launcher.communicate(timeout=60)[0]
    assert launcher.returncode == 2 and len(said.strip().splitlines()) == 1, said
    (run_dir / "config.json").unlink()
    (run_dir / "checkpoints").rmdir()
    damaged = start(config, scene_shards["train"], run_dir, "epochs=0.2", env=os.environ)
    assert damaged.wait(timeout=120) == 0
    for path in (run_dir / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    launcher = start(config, scene_shards["train"], run_dir, "epochs=0.2", env=os.environ)
    said = launcher.communicate(timeout=120)[0]
    assert launcher.returncode == 2, said
    assert said.strip().startswith("vice-train: error: not readable as a checkpoint"), said
    assert "no other in its folder is whole" in said and len(said.strip().splitlines()) == 1
    assert json.loads((run_dir / "failure.json").read_text())["kind"] == "InputError"

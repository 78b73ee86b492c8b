"""Exactly once, byte for byte: whatever is killed, lost or full, run again the job ends as if nothing had been."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster
from sharding import blobs, jpeg, shard_serially

from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import REJECTED_FILE, PrepSettings
from vice.pipeline.prep.verify import verify_shards
from vice.pipeline.storage.local import ASIDE_FOLDER

LAYERS = ("slic:8", "slico:12")
NUM_PICTURES, PER_SHARD = 96, 6
NUM_KILLS, NUM_WHILE_WRITING = 25, 15
KILLS_PER_RUN = 5
"""Of workers, in a run that may end: Ray starts a process anew in a moment, while a driver starts all of Ray."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures of which each takes some hundredths of a second, and a few files that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(NUM_PICTURES):
        (folder / f"p{number:03d}.jpg").write_bytes(jpeg(blobs(256, 192 + number % 3, number)))
    for number in range(5):
        (folder / f"garbage{number}.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """sha256 of every file of an uninterrupted run, without Ray."""
    out = tmp_path_factory.mktemp("whole") / "out"
    layers = [RegionLayer.from_text(text) for text in LAYERS]
    shard_serially(pictures, out, PrepSettings(regions=layers, samples_per_shard=PER_SHARD))
    return hashes(out)


def hashes(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start(pictures, out, *more, **options):
    """The command in a process of its own."""
    layers = [word for text in LAYERS for word in ("--regions", text)]
    words = ["shard", pictures, out, *layers, "--samples-per-shard", PER_SHARD, *more]
    command = [sys.executable, "-c", "from vice.pipeline.prep.cli import main; main()", *map(str, words)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **options)


def finish(driver):
    """Wait for the command's end: exit code and its line of error."""
    _, told = driver.communicate(timeout=200)
    lines = [line for line in told.splitlines() if line.startswith("vice-prep: ")]
    return driver.returncode, lines[-1] if lines else told


def writing(out):
    """Whether one shard is complete and another has some of its files, under their own names or aside."""
    shards = out / "shards"
    recorded = {path.stem for path in shards.glob("*.json")}
    begun = {path.name.split(".")[0] for path in (*shards.glob("*.tar"), *(out / ASIDE_FOLDER).glob("train-*.tmp"))}
    return bool(recorded) and bool(begun - recorded)


def workers_of(driver):
    """Ray's worker processes below the driver: process number to the name that Ray gave it."""
    parent, title = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            title[int(status.parent.name)] = (status.parent / "cmdline").read_bytes().split(b"\0")[0].decode()
            parent[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it ended meanwhile

    def is_below(process):
        while process in parent:
            process = parent[process]
            if process == driver.pid:
                return True
        return False

    # an agent is a part of the node: with it the node dies, and Ray ends the driver without a word
    workers = ((process, name) for process, name in title.items() if name.startswith("ray::") and "Agent" not in name)
    return {process: name for process, name in workers if is_below(process)}


class Killer:
    """Kills drivers and workers at moments drawn from counters, and keeps count of what they were doing.

    Most kills wait until a shard is being written; whether one really was is told by what the dead leave behind.
    """

    def __init__(self, seed):
        self.draws = np.random.Generator(np.random.Philox(key=seed))
        self.kills = {"driver": 0, "worker": 0}
        self.while_writing = 0

    @property
    def has_enough(self):
        return sum(self.kills.values()) >= NUM_KILLS and self.while_writing >= NUM_WHILE_WRITING

    def wait(self, driver, out):
        """Until a moment to kill, or the driver's end."""
        while driver.poll() is None and not list(out.glob("shards/*.json")):
            time.sleep(0.01)
        if self.draws.random() < 0.3:
            time.sleep(0.6 * self.draws.random())
            return
        time.sleep(0.2 * self.draws.random())
        while driver.poll() is None and not writing(out):
            time.sleep(0.0005)

    def kill_driver(self, driver, out):
        self.wait(driver, out)
        if driver.poll() is None:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            self.count("driver", out)

    def kill_worker(self, driver, out):
        """One that writes, where there is one, else any."""
        self.wait(driver, out)
        workers = workers_of(driver)
        writers = [process for process, name in workers.items() if "write_shard" in name]
        chosen = writers or sorted(workers)
        if chosen and driver.poll() is None:
            victim = chosen[int(self.draws.integers(len(chosen)))]
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.count("worker", out)

    def count(self, whom, out):
        self.kills[whom] += 1
        self.while_writing += writing(out)


@pytest.mark.timeout(600)
def test_25_kills_change_no_byte(pictures, whole, tmp_path):
    killer, number, deadline = Killer(seed=11), 0, time.monotonic() + 540
    while not killer.has_enough and time.monotonic() < deadline:
        number += 1
        out = tmp_path / f"out{number}"
        while not (out / "dataset.json").exists():
            driver = start(pictures, out, "--workers", 2)
            if killer.kills["driver"] <= killer.kills["worker"] and not killer.has_enough:
                killer.kill_driver(driver, out)
            else:
                for _ in range(KILLS_PER_RUN if not killer.has_enough else 0):
                    killer.kill_worker(driver, out)
                code, told = finish(driver)
                assert code == 0 or "run the same command again" in told, told
        assert hashes(out) == whole
    assert killer.has_enough and min(killer.kills.values()) >= NUM_KILLS // 3, (killer.kills, killer.while_writing)


OTHER_NUMBA = """
import importlib.metadata as metadata

version = metadata.version
metadata.version = lambda name: "0.1" if name == "numba" else version(name)
"""


def test_a_node_lost_in_the_middle_changes_no_byte_and_one_of_other_versions_is_refused(pictures, whole, tmp_path):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        out = tmp_path / "out"
        driver = start(pictures, out, "--ray-address", cluster.address)
        while driver.poll() is None and len(list(out.glob("shards/*.json"))) < 3:
            time.sleep(0.01)
        assert driver.poll() is None
        cluster.remove_node(node, allow_graceful=False)
        code, told = finish(driver)
        assert code == 0, told
        assert hashes(out) == whole
        (tmp_path / "other").mkdir()
        (tmp_path / "other/sitecustomize.py").write_text(OTHER_NUMBA)
        paths = os.pathsep.join([str(tmp_path / "other"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": paths})
        code, told = finish(start(pictures, tmp_path / "mixed", "--ray-address", cluster.address))
        assert code == 1 and f"-> '0.1'): {socket.gethostname()}; install the same versions" in told, told
    finally:
        cluster.shutdown()


def test_a_full_disk_is_one_line_and_with_more_room_the_same_command_goes_on(pictures, whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        code, told = finish(start(pictures, disk / "out", "--workers", 1))
        assert code == 1 and "No space left on device" in told and "run the same command again" in told
        assert list((disk / "out/shards").glob("*.json")) and not (disk / "out/dataset.json").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert finish(start(pictures, disk / "out", "--workers", 1))[0] == 0
        assert hashes(disk / "out") == whole
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


POISON = b"this comment is poison"
CRASHING_DECODER = f"""
import os, signal
from PIL import Image

opened = Image.open

def poisoned(file, *arguments, **options):
    if {POISON!r} in file.getvalue():
        os.kill(os.getpid(), signal.SIGSEGV)
    return opened(file, *arguments, **options)

Image.open = poisoned
"""


def test_an_input_that_crashes_its_decoder_is_rejected_and_all_others_are_stored(tmp_path):
    """A decoder with a bug, as every process of the job sees it: the files beside the poisoned one are innocent."""
    (tmp_path / "bug").mkdir()
    (tmp_path / "bug/sitecustomize.py").write_text(CRASHING_DECODER)
    source = tmp_path / "pictures"
    source.mkdir()
    for number in range(7):
        (source / f"good{number}.jpg").write_bytes(jpeg(blobs(64, 48, number)))
    comment = b"\xff\xfe" + (len(POISON) + 2).to_bytes(2, "big") + POISON
    data = jpeg(blobs(64, 48, 99))
    (source / "poison.jpg").write_bytes(data[:2] + comment + data[2:])
    paths = os.pathsep.join([str(tmp_path / "bug"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    code, told = finish(start(source, tmp_path / "out", "--workers", 1, env={**os.environ, "PYTHONPATH": paths}))
    assert code == 0, told
    assert verify_shards(tmp_path / "out").startswith("good: 7 samples")
    reason = "crashes the program that decodes it (SIGSEGV)"
    row = {"source": "poison.jpg", "stage": "picture", "reason": reason, "code": "killed-decoder"}
    assert pq.read_table(tmp_path / "out" / REJECTED_FILE).to_pylist() == [row]

"""Append, retry and repair, killed at any moment and run again, end in the bytes of an uninterrupted run."""

import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sharding import blobs, bytes_of, jpeg, shard_blobs

from vice.pipeline.prep.append import append, retry_rejected
from vice.pipeline.prep.repair import repair_damage
from vice.pipeline.prep.verify import verify_shards

NUM_KILLS = 5
NUM_NEW = 24


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """OUT in shards of two pictures; since then files that were rejected were mended, and `grown` has more."""
    folder = tmp_path_factory.mktemp("blobs")
    (folder / "pictures").mkdir()
    for number in range(NUM_NEW):
        (folder / f"pictures/bad{number:02d}.jpg").write_bytes(b"no picture")
    shard_blobs(folder, 24, samples_per_shard=2)
    for number in range(NUM_NEW):
        (folder / f"pictures/bad{number:02d}.jpg").write_bytes(jpeg(blobs(40, 40, 100 + number)))
    shutil.copytree(folder / "pictures", folder / "grown")
    for number in range(NUM_NEW):
        (folder / f"grown/new{number:02d}.jpg").write_bytes(jpeg(blobs(40, 40, 200 + number)))
    return folder


def damage(out):
    """Cut, change and lose shards."""
    for number, tar in enumerate(sorted((out / "shards").glob("*.tar"))):
        data = tar.read_bytes()
        if number % 3 == 0:
            tar.write_bytes(data[:-512])
        elif number % 3 == 1:
            tar.write_bytes(data[:700] + bytes([data[700] ^ 1]) + data[701:])
        else:
            tar.unlink()


SETTINGS = ["--regions", "slic:10", "--samples-per-shard", "2"]
CHANGES = {
    "append": (["append", "SOURCE", "OUT"], append),
    "retry": (["shard", "SOURCE", "OUT", *SETTINGS, "--retry-rejected"], retry_rejected),
    "repair": (["verify", "OUT", "--repair", "SOURCE"], repair_damage),
}


@pytest.mark.parametrize("change", CHANGES)
def test_kills_change_no_byte(before, tmp_path, change):
    words, uninterrupted = CHANGES[change]
    source = before / ("grown" if change == "append" else "pictures")
    damaged, whole = tmp_path / "damaged", tmp_path / "whole"
    shutil.copytree(before / "out", damaged)
    if change == "repair":
        damage(damaged)
    shutil.copytree(damaged, whole)
    uninterrupted(source, whole, workers=0)
    draws, kills = np.random.Generator(np.random.Philox(key=len(change))), []
    for attempt in range(NUM_KILLS):
        out = shutil.copytree(damaged, tmp_path / f"out{attempt}")
        code, err = run(words, source, out, draws, kills)
        while code != 0:
            assert code in (-signal.SIGKILL, 143), err
            code, err = run(words, source, out, draws, kills)
        assert bytes_of(out) == bytes_of(whole)
        if len(kills) >= NUM_KILLS:
            break
    assert len(kills) >= NUM_KILLS and verify_shards(out)


def run(words, source, out, draws, kills):
    """Run the command and kill it at a moment that is drawn, as long as kills are missing; its exit code and errors."""
    driver = start(words, source, out)
    if len(kills) < NUM_KILLS:
        wait(driver, out, draws)
        if driver.poll() is None:
            kills.append([signal.SIGKILL, signal.SIGTERM][len(kills) % 2])
            driver.send_signal(kills[-1])
    _, err = driver.communicate(timeout=100)
    return driver.returncode, err


def start(words, source, out):
    command = [{"SOURCE": str(source), "OUT": str(out)}.get(word, word) for word in words]
    program = "from vice.pipeline.prep.cli import main; main()"
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", program, *command, "--workers", "0"], **pipes)


def wait(driver, out, draws):
    """Until the driver has changed something, and a little longer, or its end."""
    there = changes_of(out)
    while driver.poll() is None and changes_of(out) == there:
        time.sleep(0.001)
    time.sleep(0.05 * draws.random())


def changes_of(out):
    return {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}

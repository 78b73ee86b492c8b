"""The three commands, as a user types them, on a handful of real photographs: pictures to a report."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from photographs import photographs

pytestmark = pytest.mark.photographs

COMMANDS = Path(sys.executable).parent


def run(command: str, *arguments: object) -> str:
    """Run a console script; returns what it printed."""
    done = subprocess.run([COMMANDS / command, *map(str, arguments)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{command} {arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A few CamVid pictures with labels, some for training and some for validation."""
    folder = tmp_path_factory.mktemp("road")
    for split, count in (("train", 9), ("val", 4)):
        pictures = sorted(photographs("camvid", split, "images").iterdir())
        for picture in pictures[:: len(pictures) // count][:count]:
            label = photographs("camvid", split, "labels", f"{picture.stem}.png")
            for source, kind in ((picture, "images"), (label, "labels")):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / split / kind)
    return folder


def test_pictures_become_shards(folder):
    for split in ("train", "val"):
        run("vice-prep", "shard", folder / split, folder / f"shards-{split}", "--dataset", "camvid", "--split", split)
        run("vice-prep", "verify", folder / f"shards-{split}")
    assert json.loads(run("vice-prep", "info", folder / "shards-train", "--json"))["num_samples"] == 9


def test_shards_become_a_teachers_vectors(folder):
    encoder = ("timm/tf_efficientnet_lite0", folder / "shards-train", folder / "vectors")
    run("vice-eval", "embed", *encoder, "--weights", "packaged", "--regions", "slic:20", "--short-side", 240)
    record = json.loads((folder / "vectors" / "vectors.json").read_text())
    assert (record["dim"], record["num_samples"]) == (496, 9)


def test_shards_and_vectors_become_a_checkpoint_with_two_processes(folder):
    small = ["views.size=64", "global_batch=4", "epochs=1", "assignment.num_concepts=32"]
    arguments = ("--shards", folder / "shards-train", "--run-dir", folder / "run", "--nproc", 2)
    settings = [f"teacher={folder / 'vectors'}", *small]
    printed = run("vice-train", "launch", *settings, *arguments)
    assert "preset cpu-distil, regions slic:20" in printed and "3 of 3 steps" in printed
    # launched again, a finished run does nothing
    before = (folder / "run" / "checkpoints" / "last.pt").stat().st_mtime_ns
    run("vice-train", "launch", *settings, *arguments)
    assert (folder / "run" / "checkpoints" / "last.pt").stat().st_mtime_ns == before


def test_a_checkpoint_becomes_numbers(folder):
    shards = ("--train", folder / "shards-train", "--val", folder / "shards-val", "--run-dir", folder / "eval")
    run("vice-eval", "all", folder / "run", *shards, "--k", 12, "--pixels-per-picture", 100, "--memory-size", 500)
    run("vice-eval", "atlas", folder / "run", *shards[2:])
    run("vice-eval", "regions", folder / "shards-val", *shards[4:])
    results = json.loads((folder / "eval" / "results.json").read_text())
    linear = results["evaluations"]["linear"]["encoders"]
    for encoder in ("trained", "frozen encoder", "frozen encoder, 128 values", "step 0", "colour + position"):
        for condition in ("clean", "changed light"):
            assert 0 < linear[encoder][condition]["miou"] < 1
            assert 0 < linear[encoder][condition]["accuracy"] < 1
    assert any(name.startswith("cluster-12") for name in results["evaluations"])
    assert "neighbors" in results["evaluations"] and results["atlases"] and results["regions"]


def test_numbers_become_a_report(folder):
    run("vice-eval", "report", folder / "eval", "--output", folder / "report.html")
    page = (folder / "report.html").read_text()
    results = json.loads((folder / "eval" / "results.json").read_text())
    miou = results["evaluations"]["linear"]["encoders"]["trained"]["clean"]["miou"]
    assert f"{100 * miou:.1f}" in page
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=[\"']?https?://", page)

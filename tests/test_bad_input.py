"""What a user can get wrong: one line of what, where and what next; exit code 2; nothing written or overwritten."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

COMMANDS = Path(sys.executable).parent


def fails(*arguments: object, code: int = 2) -> str:
    """Run a console script that must fail; returns its one line."""
    done = subprocess.run([COMMANDS / str(arguments[0]), *map(str, arguments[1:])], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def launch(shards, run_dir, *overrides, preset="cpu"):
    """The one line of a launch that must fail, whether packaged weights are installed or not."""
    weights = "model.weights=none"
    return fails("vice-train", "launch", preset, weights, "--shards", shards, "--run-dir", run_dir, *overrides)


def test_sources_that_are_none(tmp_path):
    out = tmp_path / "out"
    assert "no such source" in fails("vice-prep", "shard", tmp_path / "missing", out)
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in fails("vice-prep", "shard", tmp_path / "empty", out)
    assert not out.exists()


def test_an_out_that_is_not_ours_is_left_alone(tmp_path):
    for name in ("source", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("mine")
    before = files(tmp_path)
    assert str(tmp_path / "out") in fails("vice-prep", "shard", tmp_path / "source", tmp_path / "out")
    assert files(tmp_path) == before


def test_unknown_dataset_layer_and_preset(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.jpg").write_bytes(b"x")
    shard = ("vice-prep", "shard", tmp_path / "source", tmp_path / "out")
    assert "ade20k, camvid, cityscapes, coco_stuff, image_folder, scenes" in fails(*shard, "--dataset", "kamvid")
    assert "METHOD:SIZE" in fails(*shard, "--regions", "slic")
    assert "scenes-demo" in launch(tmp_path, tmp_path / "run", preset="scene-demo")


def test_shards_that_are_none_or_of_another_version(scene_shards, tmp_path):
    assert "vice-prep shard SOURCE OUT" in launch(tmp_path / "missing", tmp_path / "run")
    copy = tmp_path / "later"
    shutil.copytree(scene_shards["train"], copy)
    record = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps({**record, "version": 4}))
    assert "shard format version 4, this program reads versions 1 to 3" in launch(copy, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_keys_and_layers_of_a_run(scene_shards, tmp_path):
    shards, run_dir = scene_shards["train"], tmp_path / "run"
    assert "unknown setting 'views.zise' (choices: " in launch(shards, run_dir, "views.zise=3")
    assert "stored: slic:12, slic:20" in launch(shards, run_dir, "views.regions=slic:31")
    assert "7000 concepts cannot be filled by the" in launch(shards, run_dir, "assignment.num_concepts=7000")
    assert "concepts are frozen for 999 steps, and the run has" in launch(
        shards, run_dir, "assignment.freeze_concepts_steps=999", "epochs=9"
    )
    assert "no assignment method is called 'swaw' (choices: kmeans, nearest, swav)" in launch(
        shards, run_dir, "assignment.method=swaw"
    )
    assert "there is no teacher" in launch(shards, run_dir, preset="scenes-demo")
    assert "vice-eval embed" in launch(shards, run_dir, f"teacher={tmp_path}")
    assert "no such file of weights" in launch(shards, run_dir, "--weights", tmp_path / "none.pth")
    assert "global batch" in launch(shards, run_dir, "global_batch=3", "--nproc", "2")
    assert not run_dir.exists()


def test_a_run_of_another_configuration(scene_shards, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "letter.txt").write_text("mine")
    assert "not empty and not a run" in launch(scene_shards["train"], run_dir)
    assert files(run_dir) == {str(run_dir / "letter.txt"): b"mine"}


def test_a_checkpoint_that_is_none(scene_shards, tmp_path):
    data = ("--train", scene_shards["train"], "--val", scene_shards["val"], "--run-dir", tmp_path / "eval")
    assert "no such checkpoint" in fails("vice-eval", "linear", tmp_path / "none.pt", *data)
    assert not (tmp_path / "eval").exists()


def test_debug_shows_the_traceback(tmp_path):
    command = [COMMANDS / "vice-prep", "--debug", "shard", tmp_path / "missing", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" in done.stderr

"""The job with a real Ray: the same bytes on any number of workers, interrupted or not; readable without our code."""

import errno
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from dali_reader import assert_dali_agrees
from photographs import photographs
from sharding import bytes_of, shard_serially

from vice.data_specs.dataset import load_dataset
from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import MANIFEST_FILE, REJECTED_FILE, PrepSettings
from vice.pipeline.prep import cli
from vice.pipeline.prep.job import shard_dataset
from vice.pipeline.prep.part import make_part
from vice.pipeline.prep.plan import make_plan
from vice.pipeline.prep.shard import ROWS_FOLDER, WORK_FOLDER
from vice.pipeline.prep.verify import verify_shards
from vice.pipeline.shards import Shards
from vice.pipeline.storage.retries import Retries


def command(*words):
    return [sys.executable, "-c", "from vice.pipeline.prep.cli import main; main()", *map(str, words)]


def test_one_worker_two_workers_and_no_ray_give_the_same_bytes(source, spec, settings, shards, cluster, tmp_path):
    alone = shard_dataset(source, tmp_path / "alone", settings, spec, workers=1)
    joined = shard_dataset(source, tmp_path / "joined", settings, spec, ray_address=cluster)
    without_ray = shard_dataset(source, tmp_path / "without", settings, spec, workers=0)
    assert not alone.was_complete and alone.record == joined.record == without_ray.record
    assert bytes_of(tmp_path / "alone") == bytes_of(tmp_path / "joined") == bytes_of(tmp_path / "without")
    assert bytes_of(tmp_path / "alone") == bytes_of(shards)


@pytest.mark.photographs
def test_a_killed_run_is_finished_with_the_same_bytes(cluster, tmp_path):
    """The driver of a run with a Ray of its own is killed once its first shard is there."""
    source, out = tmp_path / "source", tmp_path / "out"
    for part in ("images", "labels"):
        (source / part).mkdir(parents=True)
        for path in sorted(photographs("camvid", "val", part).iterdir())[:64]:
            (source / part / path.name).symlink_to(path)
    options = ("--dataset", "camvid", "--split", "val", "--samples-per-shard", "8", "--short-side", "180")
    driver = subprocess.Popen(command("shard", source, out, *options, "--workers", "2"))
    try:
        deadline = time.monotonic() + 90
        while not list(out.glob("shards/*.json")) and time.monotonic() < deadline and driver.poll() is None:
            time.sleep(0.02)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    had = {path.name: path.stat().st_mtime_ns for path in out.glob("shards/*.json")}
    assert 1 <= len(had) < 8
    with pytest.raises(InputError, match="shards are not complete"):
        Shards(out)

    settings = PrepSettings(split="val", samples_per_shard=8, short_side=180)
    camvid = load_dataset("camvid")
    with pytest.raises(InputError, match=r"settings\.seed: 0 -> 1"):
        shard_dataset(source, out, settings.model_copy(update={"seed": 1}), camvid, ray_address=cluster)
    outcome = shard_dataset(source, out, settings, camvid, ray_address=cluster)
    assert outcome.record.num_samples == 64
    assert {name: (out / "shards" / name).stat().st_mtime_ns for name in had} == had
    assert not (out / WORK_FOLDER).exists()
    shard_serially(source, tmp_path / "whole", settings, camvid)
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_a_complete_out_is_left_alone(source, spec, settings, copied):
    """Also where the last run was killed just before it cleared up."""
    before = bytes_of(copied)
    (copied / WORK_FOLDER / "rows").mkdir(parents=True)
    assert shard_dataset(source, copied, settings, spec, ray_address="no.such.cluster:1").was_complete
    assert bytes_of(copied) == before


def test_all_inputs_rejected_fails_and_leaves_nothing(cluster, tmp_path, monkeypatch, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/picture.jpg").write_text("no picture")
    words = ["shard", str(tmp_path / "bad"), str(tmp_path / "out"), "--ray-address", cluster]
    monkeypatch.setattr(sys, "argv", ["vice-prep", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 1 and not list((tmp_path / "out").iterdir())
    assert lines[-1].startswith(
        "vice-prep: error: all 1 inputs were rejected (1 × decode: no picture in a known format)"
    )


def test_a_disk_error_is_one_line_and_the_run_can_go_on(source, spec, settings, shards, cluster, tmp_path):
    """A folder stands where a shard's rows should go."""
    out = tmp_path / "out"
    (out / ROWS_FOLDER / "train-000003.parquet").mkdir(parents=True)
    with pytest.raises(WorkError, match=r"a task failed \(IsADirectoryError.*run the same command again"):
        shard_dataset(source, out, settings, spec, ray_address=cluster)
    (out / ROWS_FOLDER / "train-000003.parquet").rmdir()
    shard_dataset(source, out, settings, spec, ray_address=cluster)
    assert bytes_of(out) == bytes_of(shards)


def test_a_disk_of_which_nothing_can_be_read_stops_the_job_instead_of_rejecting_everything(tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    for name in "abcdef":
        (tmp_path / f"{name}.jpg").write_text("x")
    plan = make_plan(tmp_path, PrepSettings(), load_dataset("image_folder"))
    delays = []
    recipe = plan.recipe._replace(retries=Retries(wait=delays.append))
    monkeypatch.setattr("vice.pipeline.storage.local.LocalStorage.chunks", failing)
    with pytest.raises(OSError, match=r"none of 6 files in a row .*, such as \w.jpg: .*\(Input/output error\)"):
        make_part(plan.inputs_of(0), recipe)
    assert sum(delays) < 150
    with pytest.raises(OSError, match="none of 2 files in a row can be read"):
        make_part(plan.inputs_of(0)[:2], recipe)
    assert len(make_part(plan.inputs_of(0)[:1], recipe).rejected) == 1


@pytest.mark.photographs
def test_every_awkward_file_is_stored_or_rejected_and_what_is_stored_decodes_everywhere(cluster, tmp_path):
    source = photographs("robustness")
    settings = PrepSettings(regions=[RegionLayer.from_text("slic:16")], samples_per_shard=16)
    outcome = shard_dataset(source, tmp_path / "out", settings, load_dataset("image_folder"), ray_address=cluster)
    stored = pq.read_table(tmp_path / "out" / MANIFEST_FILE)["source"].to_pylist()
    rejected = {row["source"]: row for row in pq.read_table(tmp_path / "out" / REJECTED_FILE).to_pylist()}
    assert sorted(stored + list(rejected)) == sorted(path.name for path in source.iterdir())
    assert outcome.record.num_inputs == len(stored) + len(rejected) == 42
    for name, row in rejected.items():
        assert name.startswith(
            ("huge_header", "truncated", "corrupt", "tiny", "SOURCE", "manifest", "odd_jpeg__ultrahdr")
        )
        assert row["stage"] == "picture" and row["reason"]
    assert all("pixels" in rejected[name]["reason"] for name in rejected if name.startswith("huge_header"))
    verify_shards(tmp_path / "out", deep=True)
    assert_dali_agrees(tmp_path / "out", ["slic16"])

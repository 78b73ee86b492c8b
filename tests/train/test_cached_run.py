"""Training on shards in a bucket, by window through a cache; where the cache lies is no part of what a run is."""

import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vice.data_specs.errors import InputError
from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.config_files import load_config
from vice.train.distributed import Process
from vice.train.launching.preflight import check
from vice.train.records.checkpoint import read_checkpoint
from vice.train.records.run_dir import open_run, read_run_config
from vice.train.state import new_state, restore_state, save_state

ONE = Process(0, 1, torch.device("cpu"))
SMALL = {
    "name": "small",
    "model": {"decoder_channels": 64, "embedding_dim": 16},
    "views": {"num_views": 2, "size": 64, "regions": "slic:12"},
    "assignment": {"num_concepts": 8, "freeze_concepts_steps": 1, "swav": {"queue_length": 40}},
    "global_batch": 2,
    "epochs": 0.6,
}


def config(**changes) -> TrainConfig:
    return TrainConfig(**{**SMALL, **changes})


def launch(page: Path, shards: str, run_dir: Path, *overrides: str) -> str:
    command = [Path(sys.executable).parent / "vice-train", "launch", page, "--shards", shards, "--run-dir", run_dir]
    done = subprocess.run([*command, *overrides], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_reads_a_bucket_through_a_cache_and_goes_on_with_another(s3, scene_shards, tmp_path):
    address = s3.upload(scene_shards["train"], f"run-{secrets.token_hex(4)}")
    (tmp_path / "small.yaml").write_text(config(shuffle_window=1, cache=str(tmp_path / "one")).model_dump_json())
    assert "3 of 3 steps" in launch(tmp_path / "small.yaml", address, tmp_path / "run")
    assert list((tmp_path / "one").rglob("*.tar"))
    other = [f"cache={tmp_path / 'other'}", "cache_gb=1.5"]
    assert "3 of 3 steps" in launch(tmp_path / "small.yaml", address, tmp_path / "run", *other)
    noted = read_run_config(tmp_path / "run")
    assert noted == config(shuffle_window=1, cache=str(tmp_path / "other"), cache_gb=1.5)
    assert read_checkpoint(tmp_path / "run/checkpoints/last.pt").state["loader"]["window"] == 1


def test_another_cache_goes_on_and_another_window_is_refused(scene_shards, tmp_path):
    shards = Shards(scene_shards["train"])
    save_state(new_state(config(shuffle_window=2, cache="here"), shards, ONE), tmp_path)
    assert restore_state(new_state(config(shuffle_window=2, cache="there", cache_gb=2), shards, ONE), tmp_path)
    with pytest.raises(InputError, match=r"another configuration: shuffle_window: 2 -> 3"):
        restore_state(new_state(config(shuffle_window=3), shards, ONE), tmp_path)
    open_run(tmp_path / "run", config(shuffle_window=2))
    with pytest.raises(InputError, match=r"another configuration: shuffle_window: 2 -> 0"):
        check(config(), str(scene_shards["train"]), tmp_path / "run", num_processes=1)


def test_runs_of_before_there_were_windows_go_on(scene_shards, tmp_path):
    state = new_state(config(), Shards(scene_shards["train"]), ONE)
    save_state(state, tmp_path)
    last = tmp_path / "checkpoints/last.pt"
    saved = torch.load(last, weights_only=True)
    for name in ("shuffle_window", "cache", "cache_gb"):
        del saved["config"][name]
    del saved["loader"]["window"]
    torch.save(saved, last)
    assert restore_state(state, tmp_path)


def test_a_cache_that_does_not_hold_two_windows_is_refused_before_anything_starts(scene_shards, tmp_path):
    out = scene_shards["train"]
    sizes = sorted(path.stat().st_size for path in out.glob("shards/*.tar"))

    def checked(num_bytes, window):
        settings = config(shuffle_window=window, cache=str(tmp_path / "cache"), cache_gb=num_bytes / 1e9)
        check(settings, str(out), tmp_path / "run", num_processes=1)

    checked(sum(sizes[-2:]), 1)
    with pytest.raises(InputError, match=r"does not hold the 2 tars .* at once: .*; give cache_gb=0\.\d+ "):
        checked(sum(sizes[-2:]) - 1, 1)
    # without a window, and with one of more shards than there are, all are in use
    for window in (0, 2):
        checked(sum(sizes), window)
        with pytest.raises(InputError, match="does not hold the 3 tars that are in use at once"):
            checked(sum(sizes) - 1, window)
    assert not list(tmp_path.iterdir())


def test_a_size_without_a_cache_is_refused():
    with pytest.raises(InputError, match="cache_gb is of a cache: give its folder as cache"):
        load_config("camvid-cpu", ["cache_gb=10"])

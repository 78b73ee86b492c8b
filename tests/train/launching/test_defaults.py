"""What a launch decides where nothing is said: the preset, a stored layer, the arithmetic."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sharding import shard_blobs
from tiny_run import tiny

from vice.data_specs.errors import InputError
from vice.pipeline.shards import Shards
from vice.train import cli
from vice.train.config_files import load_config
from vice.train.launching.defaults import default_preset, split_arguments, with_precision, with_stored_layer
from vice.train.records.run_dir import open_run, with_run_precision


def test_the_first_argument_is_a_preset_unless_it_is_a_change():
    assert split_arguments([]) == (None, [])
    assert split_arguments(["epochs=2", "seed=1"]) == (None, ["epochs=2", "seed=1"])
    assert split_arguments(["camvid-cpu", "epochs=2"]) == ("camvid-cpu", ["epochs=2"])
    assert split_arguments(["mine.yaml"]) == ("mine.yaml", [])


def test_the_preset_is_the_machines(monkeypatch):
    for there, name in ((True, "gpu"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert default_preset(["epochs=2"]) == name
        assert default_preset(["epochs=2", "teacher=vectors"]) == f"{name}-distil"


@pytest.fixture(scope="module")
def other_shards(tmp_path_factory):
    """Shards whose only layer is slic:10."""
    return Shards(shard_blobs(tmp_path_factory.mktemp("other"), 4, samples_per_shard=4))


def test_the_presets_own_layer_is_taken_where_it_is_stored(scene_shards):
    config, words = with_stored_layer("camvid-cpu", ["epochs=2"], Shards(scene_shards["train"]))
    assert config == load_config("camvid-cpu", ["epochs=2"]) and words == f"regions {config.views.regions}"


def test_else_the_first_stored_one_is_taken_and_named(other_shards):
    config, words = with_stored_layer("camvid-cpu", ["epochs=2"], other_shards)
    assert config.views.regions == "slic:10" and config.epochs == 2
    assert words == "regions slic:10, as stored"


def test_the_users_choice_stands_and_is_refused_later(other_shards):
    config, _ = with_stored_layer("camvid-cpu", ["views.regions=slic:31"], other_shards)
    assert config.views.regions == "slic:31"
    config, words = with_stored_layer("camvid-cpu", ["views.regions=grid:16"], other_shards)
    assert config.views.regions == "grid:16" and words == "regions grid:16"


def test_a_launch_without_a_preset_says_what_it_chose(other_shards, tmp_path, monkeypatch, capsys):
    """With camvid-cpu in the place of the machine's preset."""
    monkeypatch.setattr(cli, "default_preset", lambda overrides: "camvid-cpu")
    config = cli._with_defaults(other_shards.address, tmp_path / "run", ["epochs=3"])
    assert (config.name, config.epochs, config.views.regions) == ("camvid-cpu", 3, "slic:10")
    chosen, advice = capsys.readouterr().out.splitlines()
    assert chosen == "preset camvid-cpu, regions slic:10, as stored (vice-train presets lists the others)"
    assert advice.startswith("no teacher: ")


def test_only_the_first_process_says_it(other_shards, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "default_preset", lambda overrides: "camvid-cpu")
    monkeypatch.setenv("RANK", "1")
    cli._with_defaults(other_shards.address, tmp_path / "run", [])
    assert capsys.readouterr().out == ""


def test_a_wrong_change_without_a_preset_is_one_line(scene_shards, tmp_path):
    command = [Path(sys.executable).parent / "vice-train", "launch", "--shards", scene_shards["train"]]
    done = subprocess.run(
        [*command, "--run-dir", tmp_path / "run", "epochs=x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "'epochs'" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "run").exists()


def test_auto_is_bf16_where_the_hardware_has_it_and_steps_are_large(monkeypatch):
    auto = tiny(precision="auto", global_batch=16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for supported, processes, expected in ((True, 1, "bf16"), (True, 4, "fp32"), (False, 1, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda supported=supported: supported)
        assert with_precision(auto, num_processes=processes).precision == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert with_precision(auto, num_processes=4).precision == "bf16"
    for chosen in ("fp32", "bf16"):
        assert with_precision(tiny(precision=chosen), num_processes=1).precision == chosen


def test_a_resumed_run_keeps_the_arithmetic_it_started_with(tmp_path):
    open_run(tmp_path / "run", tiny(precision="bf16"))
    assert with_run_precision(tiny(precision="auto"), tmp_path / "run").precision == "bf16"
    assert with_run_precision(tiny(precision="fp32"), tmp_path / "run").precision == "fp32"
    assert with_run_precision(tiny(precision="auto"), tmp_path / "new").precision == "auto"
    with pytest.raises(InputError, match="precision: 'bf16' -> 'fp32'"):
        open_run(tmp_path / "run", tiny(precision="fp32"))

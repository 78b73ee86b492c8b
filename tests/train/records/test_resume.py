"""Checkpoints: N steps equal k steps, a stop, and N − k steps, to the bit; other configurations are refused."""

import json
import shutil

import pytest
import tiny_run
import torch
from region_vectors import make_vectors

from vice.data_specs.errors import InputError
from vice.pipeline.shards import Shards
from vice.train.distributed import Process
from vice.train.loop import train
from vice.train.records.checkpoint import initial_model, load_region_model, read_checkpoint
from vice.train.records.run_dir import open_run
from vice.train.state import new_state

ONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def teacher(scene_shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "out"
    make_vectors(Shards(scene_shards["train"]), "slic:12", out)
    return str(out)


def tiny(**changes):
    """Four steps of a ResNet."""
    return tiny_run.tiny(**{"model": {"decoder_channels": 64, "embedding_dim": 16}, "epochs": 0.8, **changes})


@pytest.fixture(scope="module")
def whole_run(scene_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(tiny(), Shards(scene_shards["train"]), folder, ONE)
    return folder


def test_stopped_and_resumed_equals_uninterrupted(whole_run, scene_shards, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(whole_run / "checkpoints" / "step-00000002.pt", tmp_path / "checkpoints" / "last.pt")
    shutil.copy(whole_run / "metrics.jsonl", tmp_path)
    state = train(tiny(), Shards(scene_shards["train"]), tmp_path, ONE)
    expected = read_checkpoint(whole_run / "checkpoints" / "last.pt").state
    assert state.step == expected["step"] == 4
    resumed = read_checkpoint(tmp_path / "checkpoints" / "last.pt").state
    assert all(torch.equal(value, resumed["model"][name]) for name, value in expected["model"].items())
    queues = [state["assignment"]["queue"] for state in (expected, resumed)]
    assert torch.equal(*queues) and len(queues[0]) == 40
    assert expected["loader"] == resumed["loader"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def frozen_start(**changes):
    """The settings of a run that learns from a teacher."""
    model = {"encoder": "regnetx_002", "decoder_channels": 64, "embedding_dim": 4, "start": "encoder"}
    losses = {"distillation": {"weight": 1.0}, "swapped_prediction": {"weight": 0.1, "sides": "symmetric"}}
    return {"model": model, "losses": losses, **changes}


LEARNS = {
    "ema": {"assignment": {"num_concepts": 8, "source": "ema", "swav": {"queue_length": 40}}, "ema_decay": 0.7},
    "teacher": frozen_start(assignment={"num_concepts": 8, "source": "teacher", "method": "nearest"}),
    "teacher and own regions": frozen_start(assignment={"num_concepts": 8, "swav": {"queue_length": 40}}),
}


def assert_same(one, other, where=""):
    """Nested states are equal to the bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_same(value, other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, value in enumerate(one):
            assert_same(value, other[number], f"{where}[{number}]")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, where


@pytest.mark.parametrize("kind", LEARNS)
def test_runs_with_an_average_or_a_teacher_resume_to_the_bit(kind, scene_shards, teacher, tmp_path):
    """Everything in a checkpoint, where the process that resumes has nothing from the one before."""
    given = {"teacher": teacher} if kind.startswith("teacher") else {}
    config, shards = tiny(**LEARNS[kind], **given), Shards(scene_shards["train"])
    train(config, shards, tmp_path / "whole", ONE)
    (tmp_path / "stopped/checkpoints").mkdir(parents=True)
    shutil.copy(tmp_path / "whole/checkpoints/step-00000002.pt", tmp_path / "stopped/checkpoints/last.pt")
    train(config, shards, tmp_path / "stopped", ONE)
    whole, stopped = (read_checkpoint(tmp_path / name / "checkpoints/last.pt").state for name in ("whole", "stopped"))
    assert whole["step"] == 4 and ("average" in whole) == (kind == "ema")
    assert (whole["start"] is not None) == kind.startswith("teacher")
    assert_same(whole, stopped)


def test_another_teacher_is_refused_when_a_run_is_resumed(scene_shards, teacher, tmp_path):
    shards = Shards(scene_shards["train"])
    settings = LEARNS["teacher"]
    train(tiny(**settings, teacher=teacher, epochs=0.4), shards, tmp_path / "run", ONE)
    moved = tmp_path / "moved"
    shutil.copytree(teacher, moved)
    train(tiny(**settings, teacher=str(moved), epochs=0.4), shards, tmp_path / "run", ONE)
    make_vectors(shards, "slic:12", tmp_path / "other", name="another encoder")
    with pytest.raises(InputError, match="teacher"):
        train(tiny(**settings, teacher=str(tmp_path / "other"), epochs=0.4), shards, tmp_path / "run", ONE)


def test_what_is_kept_and_shown_may_change_on_resuming(whole_run, scene_shards, tmp_path):
    shutil.copytree(whole_run, tmp_path / "run")
    state = train(
        tiny(checkpoint_every=3, keep_checkpoints=1, log_every=5), Shards(scene_shards["train"]), tmp_path / "run", ONE
    )
    assert state.step == 4


def test_training_moves_the_weights_and_freezes_the_concepts_first(whole_run):
    first = read_checkpoint(whole_run / "checkpoints" / "step-00000002.pt")
    last = read_checkpoint(whole_run / "checkpoints" / "last.pt")
    trained, untrained = load_region_model(last).dense.eval(), initial_model(last.config)
    moved = [not torch.equal(a, b) for a, b in zip(trained.parameters(), untrained.parameters(), strict=True)]
    assert all(moved)
    concepts = last.state["model"]["concepts"]
    torch.testing.assert_close(concepts.norm(dim=1), torch.ones(8))
    assert not torch.equal(first.state["model"]["concepts"], concepts)


def test_the_untrained_model_is_the_runs_own_beginning(whole_run, scene_shards):
    start = new_state(tiny(), Shards(scene_shards["train"]), ONE).model.dense
    untrained = initial_model(read_checkpoint(whole_run / "checkpoints" / "last.pt").config)
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), untrained.parameters(), strict=True))
    generator = torch.get_rng_state()
    initial_model(read_checkpoint(whole_run / "checkpoints" / "last.pt").config)
    assert torch.equal(generator, torch.get_rng_state())


def test_metrics_say_what_one_needs_to_see(whole_run):
    lines = [json.loads(line) for line in (whole_run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4 and lines[-1]["views_seen"] == 16
    assert lines[0]["ln_k"] == pytest.approx(2.0794, abs=1e-4)
    wanted = {"loss", "learning_rate", "concepts_used", "dead_concepts", "regions_per_picture", "views_per_second"}
    assert wanted <= set(lines[0])


def test_old_checkpoints_go(scene_shards, tmp_path):
    train(tiny(keep_checkpoints=1), Shards(scene_shards["train"]), tmp_path, ONE)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["last.pt", "step-00000004.pt"]


def test_another_configuration_or_other_shards_are_refused(whole_run, scene_shards, tmp_path):
    shutil.copytree(whole_run, tmp_path / "run")
    with pytest.raises(InputError, match=r"another configuration: seed: 0 -> 1"):
        train(tiny(seed=1), Shards(scene_shards["train"]), tmp_path / "run", ONE)
    with pytest.raises(InputError, match="shards: "):
        train(tiny(), Shards(scene_shards["val"]), tmp_path / "run", ONE)


def test_a_run_folder_of_another_configuration_or_with_other_things_is_refused(tmp_path):
    open_run(tmp_path / "run", tiny())
    open_run(tmp_path / "run", tiny())
    with pytest.raises(InputError, match=r"global_batch: 2 -> 4"):
        open_run(tmp_path / "run", tiny(global_batch=4))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and not a run"):
        open_run(tmp_path / "other", tiny())
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["letter.txt"]


def test_unreadable_checkpoints_are_told_in_one_line(whole_run, tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "none.pt")
    (tmp_path / "cut.pt").write_bytes((whole_run / "checkpoints" / "last.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match="not readable as a checkpoint"):
        read_checkpoint(tmp_path / "cut.pt")
    torch.save({"format": "vice-checkpoint", "version": 99}, tmp_path / "later.pt")
    with pytest.raises(InputError, match="checkpoint version 99"):
        read_checkpoint(tmp_path / "later.pt")

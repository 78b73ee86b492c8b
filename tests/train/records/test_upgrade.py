"""Checkpoints, runs and exports of version 2: read and evaluated as before, and not resumed."""

import json

import numpy as np
import pytest
import tiny_run
import torch

from vice.data_specs.errors import InputError
from vice.pipeline.shards import Shards
from vice.train import export
from vice.train.distributed import Process
from vice.train.export import export_config, export_run, load_export
from vice.train.loop import train
from vice.train.records.checkpoint import load_region_model, read_checkpoint
from vice.train.records.run_dir import check_run, read_run_config
from vice.train.records.upgrade import upgraded_config, upgraded_state

ONE = Process(0, 1, torch.device("cpu"))
NEW_SETTINGS = ("losses", "teacher", "ema_decay")


def old_config(config):
    """A resolved configuration as version 2 wrote it."""
    old = config.model_dump(mode="json")
    losses, assignment = old["losses"], old["assignment"]
    for name in NEW_SETTINGS:
        del old[name]
    swav, kmeans = assignment.pop("swav"), assignment.pop("kmeans")
    for name in ("nearest", "source"):
        del assignment[name]
    assignment |= {"temperature": losses["swapped_prediction"]["temperature"], "epsilon": swav["epsilon"]}
    assignment |= {"sinkhorn_iterations": swav["iterations"], "queue_length": swav["queue_length"]}
    assignment |= {f"kmeans_{name}": kmeans[name] for name in ("iterations", "restarts")}
    assignment["kmeans_vectors"] = kmeans["max_vectors"]
    for name in ("start", "freeze_batch_norm"):
        del old["model"][name]
    for name in ("encoder_factor", "freeze_encoder_steps"):
        del old["optimiser"][name]
    old["optimiser"]["weight_decay"] = config.weight_decay
    return old


@pytest.fixture(scope="module")
def settings():
    swav = {"queue_length": 30, "epsilon": 0.04, "iterations": 5}
    kmeans = {"iterations": 7, "restarts": 2, "max_vectors": 99}
    assignment = {"num_concepts": 8, "freeze_concepts_steps": 1, "swav": swav, "kmeans": kmeans}
    losses = {"swapped_prediction": {"temperature": 0.2}}
    return tiny_run.tiny(assignment=assignment, losses=losses, epochs=0.4, optimiser={"name": "lars"})


@pytest.fixture(scope="module")
def old_run(settings, scene_shards, tmp_path_factory):
    """A real run whose files are written again as version 2 had them; and its model."""
    folder = tmp_path_factory.mktemp("old")
    model = train(settings, Shards(scene_shards["train"]), folder, ONE).model
    path = folder / "checkpoints" / "last.pt"
    state = torch.load(path, weights_only=True)
    del state["start"], state["assignment"]["queue_full"]
    torch.save({**state, "version": 2, "config": old_config(settings)}, path)
    (folder / "config.json").write_text(json.dumps(old_config(settings)))
    return folder, model


def test_every_setting_of_version_2_is_found_where_it_is_now(settings):
    upgraded = upgraded_config(old_config(settings))
    assert upgraded["losses"]["swapped_prediction"] == {"temperature": 0.2}
    assert upgraded["assignment"]["swav"] == {"queue_length": 30, "epsilon": 0.04, "iterations": 5}
    assert upgraded["assignment"]["kmeans"] == {"iterations": 7, "restarts": 2, "max_vectors": 99}


def test_todays_configuration_is_left_alone(settings):
    today = settings.model_dump(mode="json")
    assert upgraded_config(today) == today


def test_upgrading_leaves_what_it_was_given_alone(settings):
    old = old_config(settings)
    upgraded_state({"config": old, "assignment": {"queue": torch.zeros(0, 16)}, "version": 2})
    assert old == old_config(settings)


def test_a_checkpoint_of_version_2_is_read_with_its_model(old_run, settings):
    folder, model = old_run
    checkpoint = read_checkpoint(folder / "checkpoints" / "last.pt")
    assert checkpoint.config.assignment == settings.assignment and checkpoint.config.losses == settings.losses
    assert checkpoint.info.step == 2 and checkpoint.start is None and checkpoint.is_old
    assert checkpoint.state["assignment"]["queue_full"] is False
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(load_region_model(checkpoint).eval().dense(images), model.eval().dense(images))


def test_it_is_evaluated_and_exported(old_run, settings, scene_shards, tmp_path, monkeypatch):
    from vice.evaluate.encoders.opening import open_encoder

    monkeypatch.setattr(export, "_write_onnx", lambda path, model: path.touch())
    folder, model = old_run
    opened = open_encoder(str(folder), device=torch.device("cpu"))
    assert opened.ref.step == 2 and "trained" in {one.name for one in opened.compared}
    maps = opened.encoder.embed(np.zeros((1, 64, 64, 3), np.uint8))
    assert maps.shape == (1, 16, 16, 16) and np.isfinite(maps).all()
    export_run(folder, tmp_path / "out")
    description = json.loads((tmp_path / "out/model.json").read_text())
    # as an export of that time describes its run
    description["config"] = old_config(settings)
    (tmp_path / "out/model.json").write_text(json.dumps(description))
    assert export_config(tmp_path / "out").losses == settings.losses
    assert torch.equal(load_export(tmp_path / "out").concepts, model.concepts)


def test_its_run_is_known_and_not_resumed(old_run, settings, scene_shards):
    folder, _ = old_run
    assert read_run_config(folder).assignment == settings.assignment
    check_run(folder, read_run_config(folder))
    with pytest.raises(
        InputError, match=r"started by an earlier version and cannot be resumed: .*evaluate or export it"
    ):
        train(read_run_config(folder), Shards(scene_shards["train"]), folder, ONE)

"""Exports: the same outputs to the bit from safetensors, and within 1e-4 from ONNX at other sizes and batches."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from vice.data_specs.errors import InputError, WorkError
from vice.train import export
from vice.train.config import TrainConfig
from vice.train.export import PictureModel, export_run, load_export
from vice.train.network.model import build_model
from vice.train.records.checkpoint import CHECKPOINT_FOLDER, load_region_model, read_checkpoint, save_checkpoint


def saved(folder, **model):
    """A run's folder with one checkpoint, of weights and statistics that are not the initial ones."""
    fields = {"encoder": "resnet18", "decoder_channels": 64, "embedding_dim": 8, "centre": True, **model}
    config = TrainConfig(name="tiny", model=fields, assignment={"num_concepts": 6})
    trained = build_model(config.model_copy(update={"seed": 1}))
    trained.dense(torch.randn(2, 3, 64, 64))
    state = {
        "step": 3,
        "num_steps": 4,
        "views_seen": 12,
        "config": config.model_dump(mode="json"),
        "loader": {"shards": "abc"},
        "model": trained.state_dict(),
        "start": None,
    }
    save_checkpoint(folder, state, keep=1)
    return folder


@pytest.fixture
def no_onnx(monkeypatch):
    """The exporter takes seconds: leave it out where the test is of something else."""
    monkeypatch.setattr(export, "_write_onnx", lambda path, model: path.touch())


@pytest.mark.parametrize(
    "model",
    [
        {"output_stride": 8, "decoder": "deeplabv3plus", "activation_checkpointing": True},
        {"encoder": "eva02_tiny_patch14_224", "output_stride": 16},
    ],
    ids=["resnet-deeplabv3plus", "vit-fpn"],
)
def test_onnx_agrees_with_torch_at_other_sizes(model, tmp_path):
    run = saved(tmp_path / "run", **model)
    out = tmp_path / "out"
    assert [path.name for path in export_run(run, out)] == ["model.safetensors", "model.json", "model.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    reference = PictureModel(load_export(out)).eval()
    for shape in ((1, 64, 96, 3), (3, 160, 64, 3)):
        pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        found = session.run(["embeddings", "concept_scores"], {"pictures": pictures})
        with torch.no_grad():
            expected = reference(torch.from_numpy(pictures))
        for one, other, channels in zip(found, expected, (8, 6), strict=True):
            assert one.shape == (shape[0], channels, shape[1] // 4, shape[2] // 4)
            np.testing.assert_allclose(one, other, atol=1e-4, rtol=0)


def test_safetensors_give_the_same_outputs_to_the_bit_and_say_what_they_are(tmp_path, no_onnx):
    run = saved(tmp_path / "run")
    last = run / CHECKPOINT_FOLDER / "last.pt"
    export_run(last, tmp_path / "out")
    loaded, trained = load_export(tmp_path / "out"), load_region_model(read_checkpoint(last)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.dense(images), trained.dense(images))
    assert torch.equal(loaded.concepts, trained.concepts)
    description = json.loads((tmp_path / "out/model.json").read_text())
    assert description["output"] == {"stride": 4, "embedding_dim": 8, "num_concepts": 6}
    assert description["preprocessing"]["size_multiple"] == 32
    assert description["step"] == 3 and description["shards"] == "abc"
    assert description["config"]["model"]["encoder"] == "resnet18"
    with safe_open(tmp_path / "out/model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["description"]) == description
        assert {key.split(".")[0] for key in file.keys()} == {"dense", "concepts"}  # noqa: SIM118


def test_what_cannot_be_exported_is_told_and_nothing_is_written(tmp_path, no_onnx):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no checkpoint in this folder: .*empty; give a folder of vice-train launch"):
        export_run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(InputError, match="no such checkpoint"):
        export_run(tmp_path / "none.pt", tmp_path / "out")
    (tmp_path / "broken.pt").write_bytes(b"broken")
    with pytest.raises(InputError, match="not readable as a checkpoint"):
        export_run(tmp_path / "broken.pt", tmp_path / "out")
    run = saved(tmp_path / "run")
    with pytest.raises(InputError, match=r"not empty: .*run; give a new folder"):
        export_run(run, run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.pt", "empty", "run"]
    export_run(run, tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == 3


def test_a_network_without_onnx_form_leaves_the_rest(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise ValueError("no operator for this\nand a page more")

    monkeypatch.setattr(torch.onnx, "export", refused)
    with pytest.raises(WorkError, match=r"no ONNX form \(no operator for this\): .*out; model.safetensors and"):
        export_run(saved(tmp_path / "run"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.json", "model.safetensors"]
    assert json.loads((tmp_path / "out/model.json").read_text())["onnx"] is None


def test_exports_that_do_not_fit_are_told(tmp_path, no_onnx):
    with pytest.raises(InputError, match="not readable as an export"):
        load_export(tmp_path)
    export_run(saved(tmp_path / "run"), tmp_path / "out")
    path = tmp_path / "out/model.json"
    path.write_text(path.read_text().replace('"embedding_dim": 8', '"embedding_dim": 9'))
    with pytest.raises(InputError, match="do not fit the description"):
        load_export(tmp_path / "out")

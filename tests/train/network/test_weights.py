"""Pretrained weights: from files of all wrappings, checked key by key; public ones without a network in one line."""

import time

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from vice.data_specs.errors import InputError
from vice.train.config import ModelConfig, TrainConfig
from vice.train.network import public_weights
from vice.train.network.encoders import build_encoder
from vice.train.network.model import build_model
from vice.train.network.public_weights import fetch
from vice.train.network.public_weights import public_weights as named
from vice.train.network.weight_source import check_weights
from vice.train.network.weights import initialise, prepare, read_weights
from vice.train.records.checkpoint import Checkpoint, initial_model, load_region_model


def settings(weights, encoder="resnet18", **changes) -> ModelConfig:
    return ModelConfig(
        **{"encoder": encoder, "weights": str(weights), "decoder_channels": 64, "embedding_dim": 8, **changes}
    )


def started(weights, encoder="resnet18", **changes):
    config = settings(weights, encoder, **changes)
    built = build_encoder(config)
    return built, initialise(built, config)


@pytest.fixture(scope="module")
def resnet18() -> dict[str, torch.Tensor]:
    """A state dict as torchvision publishes it, with running statistics that are not the initial ones."""
    torch.manual_seed(3)
    state = torchvision.models.resnet18().state_dict()
    return {key: value + 0.1 * torch.rand(value.shape) if value.ndim else value for key, value in state.items()}


@pytest.fixture
def file(resnet18, tmp_path):
    torch.save(resnet18, tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def test_timm_and_torchvision_give_the_same_maps_of_one_file(file):
    images = torch.randn(2, 3, 64, 96)
    (ours, told), (theirs, _) = started(file), started(file, "torchvision/resnet18")
    assert told.unused == ["fc.bias", "fc.weight"]
    with torch.no_grad():
        for one, other in zip(ours.eval()(images), theirs.eval()(images), strict=True):
            torch.testing.assert_close(one, other)


def test_maps_are_those_of_the_whole_network(file, resnet18):
    whole = torchvision.models.resnet18()
    whole.load_state_dict(resnet18)
    images = torch.randn(2, 3, 64, 64)
    last = started(file)[0].eval()(images)[-1]
    torch.testing.assert_close(whole.eval().fc(last.mean((2, 3))), whole(images))


def wrapped(state, how):
    return {
        "lightning": {"state_dict": {f"model.backbone.{key}": value for key, value in state.items()}, "epoch": 3},
        "moco": {
            "state_dict": {f"module.encoder_q.{k}": v for k, v in state.items()} | {"module.queue": torch.ones(2)}
        },
        "uncounted": {key: value for key, value in state.items() if "num_batches" not in key},
    }[how]


@pytest.mark.parametrize("how", ["lightning", "moco", "uncounted"])
def test_common_wrappings_are_taken_off(how, file, resnet18, tmp_path):
    torch.save(wrapped(resnet18, how), tmp_path / "wrapped.pt")
    encoder, _ = started(tmp_path / "wrapped.pt")
    plain, _ = started(file)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_safetensors_of_timm(name, tmp_path):
    whole = timm.create_model(name)
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, tmp_path / "it.safetensors")
    encoder, told = started(tmp_path / "it.safetensors", name)
    assert any(key.startswith(("head.", "norm.")) for key in told.unused)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = whole.eval().forward_intermediates(images, indices=[-1], intermediates_only=True)[-1]
        found = encoder.eval().network(images)[-1]
    torch.testing.assert_close(found, expected)


def test_a_vit_of_another_picture_size_is_resampled(tmp_path):
    torch.save(timm.create_model("vit_tiny_patch16_224", img_size=96).state_dict(), tmp_path / "small.pth")
    encoder, _ = started(tmp_path / "small.pth", "vit_tiny_patch16_224")
    assert encoder.network.model.pos_embed.shape[1] == 1 + 14 * 14


def test_a_checkpoint_of_ones_own_gives_its_encoder(tmp_path):
    trained = build_model(TrainConfig(name="x", seed=5, model=settings("none")))
    content = {"format": "vice-checkpoint", "model": trained.state_dict(), "step": 1}
    torch.save(content, tmp_path / "last.pt")
    encoder, told = started(tmp_path / "last.pt")
    pairs = zip(encoder.parameters(), trained.dense.encoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs) and "concepts" in told.unused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer1.0.conv1.weight"), r"1 missing \(layer1.0.conv1.weight\): resnet18"),
        (lambda s: [s.pop(k) for k in list(s) if "layer2" in k], r"25 missing \(layer2.0.conv1.weight, .*, \.\.\.\)"),
        (
            lambda s: s.update({"conv1.weight": torch.ones(64, 3, 3, 3)}),
            r"conv1.weight \(64, 3, 3, 3\), not \(64, 3, 7",
        ),
        (lambda s: s.update({"neck.weight": torch.ones(2)}), r"1 unknown \(neck.weight\)"),
    ],
    ids=["missing", "many missing", "shape", "unknown"],
)
def test_weights_that_do_not_fit_are_told_by_key(change, message, resnet18, tmp_path):
    state = dict(resnet18)
    change(state)
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(InputError, match=message):
        started(tmp_path / "wrong.pth")


def test_unreadable_files_are_told_in_one_line(tmp_path, file):
    with pytest.raises(InputError, match="no such file of weights"):
        read_weights(tmp_path / "none.pth")
    for name in ("cut.pth", "cut.safetensors"):
        (tmp_path / name).write_bytes(file.read_bytes()[:1000])
        with pytest.raises(InputError, match=r"not readable as weights|or is damaged"):
            read_weights(tmp_path / name)
    torch.save(torchvision.models.resnet18(), tmp_path / "module.pth")
    with pytest.raises(InputError, match="more than tensors"):
        read_weights(tmp_path / "module.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="no tensors in it"):
        read_weights(tmp_path / "empty.pth")


def test_a_wrong_path_is_told_before_anything_starts(tmp_path, file):
    def checked(weights):
        check_weights(TrainConfig(name="x", model=settings(weights)), tmp_path / "run")

    with pytest.raises(InputError, match=r"no such file of weights: .*nowhere.pth; give --weights PATH"):
        checked(tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match="not a file of weights"):
        checked(__file__)
    for weights in ("none", "default", "tv_in1k", file):
        checked(weights)
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/last.pt").touch()
    checked(tmp_path / "nowhere.pth")  # a run that goes on needs it no more


def test_what_is_used_is_told(file):
    assert prepare(settings(file)).endswith(f"tensors of resnet18 from {file}; not used: fc.bias, fc.weight")
    assert prepare(settings("none")) is None


@pytest.mark.parametrize(
    ("encoder", "weights", "url"),
    [
        ("resnet18", "tv_in1k", "https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors"),
        (
            "vit_small_patch16_224.dino",
            "default",
            "https://huggingface.co/timm/vit_small_patch16_224.dino/resolve/main",
        ),
        ("torchvision/resnet18", "IMAGENET1K_V1", "https://download.pytorch.org/models/resnet18-f37072fd.pth"),
        ("torchvision/resnet50", "default", "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"),
    ],
)
def test_without_a_network_the_file_to_fetch_is_named(encoder, weights, url, tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(public_weights.urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(public_weights.huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    begun = time.perf_counter()
    with pytest.raises(InputError, match=rf"cannot be downloaded \(.*\): {url}.*; fetch that file .* --weights PATH"):
        fetch(named(encoder, weights))
    assert time.perf_counter() - begun < 2
    assert not list(tmp_path.rglob("*"))


def test_unknown_public_weights_list_those_there_are():
    with pytest.raises(InputError, match=r"no public weights 'v9': .*choose from none, default, .*tv_in1k.* or give"):
        named("resnet18", "v9")
    with pytest.raises(InputError, match="choose from none, default, IMAGENET1K_V1, or give a file"):
        named("torchvision/resnet18", "v9")


def test_evaluating_needs_the_file_for_the_untrained_network_only(file):
    config = TrainConfig(name="x", model=settings(file))
    start = build_model(config)
    initialise(start.dense.encoder, config.model)
    checkpoint = Checkpoint(file, {"config": config.model_dump(mode="json"), "model": build_model(config).state_dict()})
    untrained = initial_model(checkpoint.config)
    assert all(torch.equal(a, b) for a, b in zip(start.dense.parameters(), untrained.parameters(), strict=True))
    file.unlink()
    load_region_model(checkpoint)
    with pytest.raises(
        InputError, match=r"pretrained weights that the run started from are not available: no such file"
    ):
        initial_model(checkpoint.config)

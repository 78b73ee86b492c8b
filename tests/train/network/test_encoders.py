"""Networks of every family: a map at a quarter of the picture, gradients everywhere, one-line refusals."""

import copy

import pytest
import torch

from vice.data_specs.errors import InputError
from vice.train.config import ModelConfig, TrainConfig
from vice.train.network.encoders import build_encoder
from vice.train.network.model import DenseModel, build_model


def settings(encoder="resnet18", **changes) -> ModelConfig:
    return ModelConfig(**{"encoder": encoder, "decoder_channels": 64, "embedding_dim": 8, **changes})


RESNETS = [
    *(("resnet18", stride, decoder) for stride in (8, 16, 32) for decoder in ("fpn", "deeplabv3plus")),
    ("resnet34", 8, "fpn"),
    ("resnet34", 16, "deeplabv3plus"),
    ("resnet50", 8, "deeplabv3plus"),
    ("resnet50", 16, "fpn"),
    ("resnet101", 16, "deeplabv3plus"),
    ("resnet101", 32, "fpn"),
]
OTHERS = [
    ("regnetx_002", 16, "fpn"),
    ("convnext_atto", 8, "fpn"),
    ("convnext_atto", 32, "deeplabv3plus"),
    ("vit_tiny_patch16_224", 32, "fpn"),
    ("vit_tiny_patch16_224", 16, "deeplabv3plus"),
    ("eva02_tiny_patch14_224", 32, "fpn"),
    ("swin_tiny_patch4_window7_224", 32, "fpn"),
    ("torchvision/resnet18", 32, "fpn"),
    ("torchvision/resnet50", 8, "deeplabv3plus"),
    ("torchvision/regnet_y_400mf", 32, "fpn"),
]


@pytest.mark.parametrize(("encoder", "stride", "decoder"), RESNETS + OTHERS)
def test_a_map_at_a_quarter_and_a_gradient_for_every_weight(encoder, stride, decoder):
    model = DenseModel(settings(encoder, output_stride=stride, decoder=decoder))
    assert model.encoder.strides[0] == 4 and model.encoder.strides[-1] == stride
    assert model.size_multiple == stride
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    maps = model(images)
    assert maps.shape == (2, 8, 16, 8)
    torch.testing.assert_close(maps.norm(dim=1), torch.ones(2, 16, 8))
    (maps * torch.randn(maps.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not without
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} == {"encoder", "decoder", "head"}


@pytest.mark.parametrize(
    ("encoder", "changes", "message"),
    [
        ("resnt18", {}, r"timm has no such network: model.encoder=resnt18; timm has resnet18"),
        ("torchvision/nothing", {}, "torchvision has no such classification network"),
        ("torchvision/resnet18", {"output_stride": 8}, r"no output stride 8: .*; timm's resnet18 has"),
        ("torchvision/alexnet", {}, "no map of stride 4"),
        ("hrnet_w18_small", {"output_stride": 16}, r"no output stride 16 \(its last stages cannot be dilated\)"),
        ("vit_tiny_patch16_224", {"output_stride": 8}, "a token of it is 16 pixels wide: .*set model.output_stride=16"),
        ("mixer_s16_224", {}, r"does not take pictures of 128×128"),
        ("torchvision/resnet18", {"activation_checkpointing": True}, "do not compute activations again"),
        ("hrnet_w18_small", {"activation_checkpointing": True}, "does not compute activations again"),
    ],
)
def test_what_an_encoder_cannot_do_is_told_in_one_line(encoder, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        build_encoder(settings(encoder, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_computing_activations_again_changes_nothing(encoder):
    plain, again = (
        build_model(TrainConfig(name="x", model=settings(encoder, activation_checkpointing=recompute))).dense
        for recompute in (False, True)
    )
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        for model in (plain, again):
            model.zero_grad()
            model(images).square().cumsum(1).sum().backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    for (name, one), (_, other) in zip(plain.named_buffers(), again.named_buffers(), strict=True):
        # the count of batches is doubled; with a momentum of its own nothing depends on it
        assert torch.equal(one, other) or name.endswith("num_batches_tracked"), name


def test_activations_are_computed_again():
    model = DenseModel(settings(activation_checkpointing=True))
    calls = []
    model.encoder.network.layer2.register_forward_pre_hook(lambda *_: calls.append(1))
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert len(calls) == 2


@pytest.mark.parametrize("encoder", ["torchvision/efficientnet_b0", "vit_tiny_patch16_224"])
def test_a_training_pass_draws_nothing_by_chance(encoder):
    model = build_encoder(settings(encoder)).train()
    before = torch.get_rng_state()
    model(torch.zeros(2, 3, 64, 64))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_sixteen_bits_are_close_to_thirty_two(encoder):
    model = DenseModel(settings(encoder)).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images)
    assert half.dtype == torch.float32
    assert (whole * half).sum(1).mean() > 0.95


def test_torch_compile_takes_it_in_one_piece():
    model = DenseModel(settings("regnetx_002", activation_checkpointing=True))
    compiled = torch.compile(copy.deepcopy(model), backend="eager", fullgraph=True)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(compiled(images), model(images))


def test_a_network_of_another_normalisation_is_fed_its_own():
    encoder = build_encoder(settings("vit_tiny_patch16_224"))
    seen = []
    encoder.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    pixels = torch.rand(1, 3, 32, 32)
    encoder((pixels - mean) / std)
    encoder.normalise_as((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    encoder((pixels - mean) / std)
    torch.testing.assert_close(seen[0], (pixels - mean) / std)
    torch.testing.assert_close(seen[1], pixels * 2 - 1)
    assert not [key for key in encoder.state_dict() if key.startswith("input")]

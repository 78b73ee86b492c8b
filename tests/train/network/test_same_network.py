"""Dilation, memory layout, recomputing and compiling must not change what a network computes."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch.nn.modules.batchnorm import _BatchNorm

from vice.train.config import ModelConfig, TrainConfig
from vice.train.network.encoders import build_encoder
from vice.train.network.model import DenseModel, build_model
from vice.train.network.same_padding import fix_same_padding

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
FAMILIES = ["resnet18", "regnetx_002", "tf_efficientnet_lite0", "mobilenetv3_small_100", "convnext_atto"]


def settings(encoder, **changes) -> ModelConfig:
    return ModelConfig(**{"encoder": encoder, "decoder_channels": 64, "embedding_dim": 8, **changes})


@pytest.mark.parametrize(
    ("encoder", "output_stride", "offset"),
    [
        *((name, stride, 0) for name in ("resnet18", "regnetx_002", "torchvision/resnet50") for stride in (8, 16)),
        # its downsampling by 2 × 2 is even: padding cannot be the same on both sides
        *(("convnext_atto", 16, 0), ("convnext_atto", 8, 1)),
        # TensorFlow pads right and below only where the stride is 2
        *(("tf_efficientnet_lite0", 16, 1), ("tf_efficientnet_lite0", 8, 3)),
    ],
)
def test_a_dilated_network_computes_the_strided_ones_map_and_what_lies_between(encoder, output_stride, offset):
    strided, dilated = (build_encoder(settings(encoder, output_stride=stride)).eval() for stride in (32, output_stride))
    dilated.load_state_dict(strided.state_dict())
    step = 32 // output_stride
    with torch.no_grad():
        expected, found = strided(IMAGES)[-1], dilated(IMAGES)[-1]
    torch.testing.assert_close(found[..., offset::step, offset::step], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("encoder", FAMILIES)
def test_dilation_keeps_every_module(encoder):
    strided, dilated = (build_encoder(settings(encoder, output_stride=stride)) for stride in (32, 16))

    def kinds(network):
        """Types of all modules; a convolution that pads by itself is one all the same."""
        return [(name, type(part).__name__.replace("Conv2dSame", "Conv2d")) for name, part in network.named_modules()]

    assert kinds(strided) == kinds(dilated)


@pytest.mark.parametrize("encoder", [*FAMILIES, "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_channels_last_changes_the_layout_only(encoder):
    plain = DenseModel(settings(encoder)).eval()
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(last(IMAGES), plain(IMAGES), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("encoder", FAMILIES)
def test_computing_activations_again_keeps_gradient_and_statistics(encoder):
    """Most of these have timm's batch norms with the activation inside, whose momentum must be set to 0 as well."""
    plain, again = (
        build_model(TrainConfig(name="x", model=settings(encoder, activation_checkpointing=recompute))).dense
        for recompute in (False, True)
    )
    for _ in range(2):
        for model in (plain, again):
            model.train().zero_grad()
            model(IMAGES).square().cumsum(1).sum().backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    for (name, one), (_, other) in zip(plain.named_buffers(), again.named_buffers(), strict=True):
        assert torch.equal(one, other) or name.endswith("num_batches_tracked"), name


@pytest.mark.parametrize("encoder", ["resnet18", "regnetx_002", "tf_efficientnet_lite0", "mobilenetv3_small_100"])
def test_computing_activations_again_knows_every_batch_norm(encoder):
    """A norm with running statistics of another class would count batches twice."""
    network = build_encoder(settings(encoder))
    counted = [part for part in network.modules() if getattr(part, "running_var", None) is not None]
    assert counted and all(isinstance(part, _BatchNorm) for part in counted)


class Calls:
    """A backend of torch.compile that runs graphs as they are and counts them."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, inputs):
        def run(*arguments):
            self.count += 1
            return graph(*arguments)

        return run


def compiled(backend) -> DenseModel:
    """As `new_state` compiles."""
    torch._dynamo.reset()
    model = DenseModel(settings("regnetx_002"))
    model.raw = torch.compile(model.raw, backend=backend)
    return model


def test_the_compiled_network_is_what_runs_and_equals_the_plain_one():
    calls = Calls()
    model, plain = compiled(calls), DenseModel(settings("regnetx_002"))
    assert list(model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(model.state_dict())
    found = {}
    for training, half in ((True, False), (True, True), (False, False)):
        before = calls.count
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found[training, half] = model.train(training)(IMAGES)
            assert calls.count > before, "the plain network ran"
            torch.testing.assert_close(found[training, half], plain.train(training)(IMAGES))
    assert not torch.equal(found[True, True], found[True, False]), "autocast did not reach the compiled network"
    for one, other in zip(model.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_copy_of_a_compiled_network_has_weights_of_its_own():
    """As an average of the weights over time does: the compiled function belongs to the network it was made of."""
    model = compiled("eager").eval()
    other = copy.deepcopy(model)
    with torch.no_grad():
        before = model(IMAGES)
        torch.testing.assert_close(other(IMAGES), before)
        for weight in other.parameters():
            weight.zero_()
        assert not torch.equal(other(IMAGES), before)
        torch.testing.assert_close(model(IMAGES), before)


@pytest.mark.parametrize("output_stride", [16, 32])
def test_a_fixed_padding_is_what_tensorflow_pads(output_stride):
    model = DenseModel(settings("tf_efficientnet_lite0", output_stride=output_stride)).eval()
    fixed = copy.deepcopy(model)
    fix_same_padding(fixed)
    assert not any(isinstance(part, Conv2dSame) for part in fixed.modules())
    with torch.no_grad():
        for height, width in ((64, 96), (160, 32)):
            images = torch.randn(1, 3, height, width)
            assert torch.equal(fixed(images), model(images))

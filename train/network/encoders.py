"""Encoders: pictures to feature maps, by any network of timm or torchvision that has maps at strides 4, 8, 16 and 32.

A network with maps of one stride only (a plain vision transformer) gets a pyramid on top. Everything that draws from
torch's global generator in a forward pass (dropout, stochastic depth) is off: a resumed run repeats a whole one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import DropPath, Format
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import StochasticDepth

from vice.data_specs.errors import InputError
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.train.config import ModelConfig
from vice.train.network.feature_pyramid import SimplePyramid
from vice.train.network.torchvision_maps import TORCHVISION, torchvision_network

STRIDES = (4, 8, 16, 32)
"""Of a network's maps, before its last stages are dilated."""
_PROBE = 128
"""Side of the picture with which a new encoder's maps are measured, in pixels."""


class Encoder(nn.Module):
    """Pictures to a list of feature maps, the finest first.

    Args:
        network: pictures to a list (or a mapping, in order) of maps, or to one map for the pyramid.
        strides: picture pixels a cell of every map.
        channels: of every map.
        pyramid: makes the maps out of the network's one.
        patch: resize the picture by patch / 16 before the network, so that its tokens of `patch` pixels stand for 16.
        recompute: compute activations again for the gradient.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        strides: Sequence[int],
        channels: Sequence[int],
        pyramid: SimplePyramid | None = None,
        patch: int = 16,
        recompute: bool = False,
    ):
        super().__init__()
        self.network = network
        self.pyramid = pyramid
        self.strides, self.channels = tuple(strides), tuple(channels)
        self.size_multiple = max(STRIDES[1], *strides)
        """Sides of pictures must be multiples of this."""
        self._patch = patch
        # some of timm's transformers (Swin) put channels last
        self._permute = getattr(network, "output_fmt", None) == Format.NHWC
        self._recompute = recompute
        if recompute:
            self._momenta = {name: norm.momentum for name, norm in _batch_norms(self)}
        self.input_scale: Tensor | None
        self.register_buffer("input_scale", None, persistent=False)
        self.register_buffer("input_shift", None, persistent=False)

    def normalise_as(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take pictures normalised as the loader does (ImageNet's mean, deviation) and feed them normalised so."""
        if tuple(mean) == tuple(IMAGE_MEAN) and tuple(std) == tuple(IMAGE_STD):
            return
        have_mean, have_std, mean, std = (torch.tensor(values) for values in (IMAGE_MEAN, IMAGE_STD, mean, std))
        self.input_scale = (have_std / std).view(3, 1, 1)
        self.input_shift = ((have_mean - mean) / std).view(3, 1, 1)

    def leave_out_pyramid(self) -> None:
        """Give the network's own map alone: a pyramid with random weights says nothing of the network."""
        if self.pyramid is not None:
            self.strides, self.channels = (self.pyramid.token_stride,), (self.pyramid.token_channels,)
            self.pyramid = None

    def forward(self, images: Float[Tensor, "v 3 h w"]) -> list[Tensor]:
        """Feature maps [v, channels, h / stride, w / stride] of normalised pictures; h, w: see `size_multiple`."""
        if self.input_scale is not None:
            images = images * self.input_scale + self.input_shift
        if self._patch != 16:
            size = [side * self._patch // 16 for side in images.shape[2:]]
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        if not (self._recompute and self.training):
            return self._maps(images)
        # the gradient's pass runs the network once more: its batches must not count again in the running statistics
        for name, norm in _batch_norms(self):
            norm.momentum = self._momenta[name]
        maps = self._maps(images)
        for _, norm in _batch_norms(self):
            norm.momentum = 0.0
        return maps

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps = self.network(images)
        maps = list(maps.values()) if isinstance(maps, dict) else list(maps)
        if self._permute:
            maps = [one.permute(0, 3, 1, 2) for one in maps]
        return maps if self.pyramid is None else self.pyramid(maps[-1])


def build_encoder(config: ModelConfig, levels: Sequence[int] = (0, 1, 2, 3)) -> Encoder:
    """The configured encoder with random weights.

    Args:
        config: its name, output stride, and whether activations are computed again.
        levels: which of the maps at strides 4, 8, 16, 32 are wanted; nothing is built for the others.

    Raises:
        InputError: no such network, or one without such maps, without that output stride, or that cannot recompute.
    """
    where = f"model.encoder={config.encoder}"
    strides = [min(STRIDES[level], config.output_stride) for level in levels]
    if config.encoder.startswith(TORCHVISION):
        if config.activation_checkpointing:
            hint = "take an encoder of timm, or model.activation_checkpointing=false"
            raise InputError("torchvision's networks do not compute activations again", where=where, hint=hint)
        network, channels = torchvision_network(config.encoder, levels, config.output_stride)
        encoder = Encoder(network, strides=strides, channels=channels)
    else:
        encoder = _timm_encoder(config, levels, strides, where)
    _without_chance(encoder)
    _measure(encoder, where, config.output_stride)
    return encoder


def _timm_encoder(config: ModelConfig, levels: Sequence[int], strides: list[int], where: str) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        network, size_option = _timm_network(config.encoder, where)
    reductions = network.feature_info.reduction()
    if len(set(reductions)) == 1:
        arguments, token = {"out_indices": (-1,)}, reductions[0]
    elif tuple(reductions) == STRIDES:
        arguments, token = {"out_indices": tuple(level - 4 for level in levels)}, None
        if config.output_stride < 32:
            arguments["output_stride"] = config.output_stride
    else:
        what = f"its maps have the strides {', '.join(map(str, reductions))}, not 4, 8, 16, 32"
        raise InputError(what, where=where, hint="resnet50, convnext_tiny and vit_small_patch16_224 have")
    try:
        network = timm.create_model(config.encoder, features_only=True, **arguments, **size_option)
    except (TypeError, ValueError, NotImplementedError, AssertionError):
        raise _no_such_stride(config.output_stride, where, "its last stages cannot be dilated") from None
    if config.activation_checkpointing:
        _recompute_activations(network, where)
    channels = network.feature_info.channels()
    if token is None:
        return Encoder(network, strides=strides, channels=channels, recompute=config.activation_checkpointing)
    patch, token = (16, token) if token in STRIDES else (token, 16)
    if config.output_stride < token:
        what = f"a token of it is {token} pixels wide: it has no map of stride {config.output_stride}"
        raise InputError(what, where=where, hint=f"set model.output_stride={token}")
    pyramid = SimplePyramid(channels[0], token_stride=token, strides=strides)
    return Encoder(
        network,
        strides=strides,
        channels=pyramid.channels,
        pyramid=pyramid,
        patch=patch,
        recompute=config.activation_checkpointing,
    )


def _timm_network(name: str, where: str) -> tuple[nn.Module, dict[str, bool]]:
    """A network's last four maps, and the option with which it takes pictures of any size."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3) or ["resnet18", "convnext_tiny"]
        hint = f"timm has {', '.join(near)}; torchvision's are written torchvision/NAME"
        raise InputError("timm has no such network", where=where, hint=hint)
    options: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for option in options:
        try:
            return timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1), **option), option
        except TypeError as error:
            if not option or "unexpected keyword" not in str(error):
                raise InputError(_reason(error), where=where) from None
        except (RuntimeError, ValueError, AssertionError, IndexError, AttributeError) as error:
            what = f"timm gives no feature maps of it ({_reason(error)})"
            raise InputError(what, where=where, hint="take another encoder, as resnet50") from None
    raise AssertionError("the last option is none")


def _recompute_activations(network: nn.Module, where: str) -> None:
    inner = network if hasattr(network, "set_grad_checkpointing") else getattr(network, "model", None)
    try:
        inner.set_grad_checkpointing(True)
    except (AttributeError, AssertionError):
        hint = "set model.activation_checkpointing=false"
        raise InputError("this network does not compute activations again", where=where, hint=hint) from None


def _without_chance(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd | StochasticDepth):
            part.p = 0.0
        elif isinstance(part, DropPath):
            part.drop_prob = 0.0


def _batch_norms(module: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, _BatchNorm)]


@torch.no_grad()
def _measure(encoder: Encoder, where: str, output_stride: int) -> None:
    """Refuse an encoder whose maps are not what it says: timm's networks may ignore an option without a word."""
    encoder.eval()
    try:
        maps = encoder(torch.zeros(1, 3, _PROBE, _PROBE))
    except (RuntimeError, AssertionError, ValueError) as error:
        what = f"does not take pictures of {_PROBE}×{_PROBE} ({_reason(error)})"
        raise InputError(what, where=where, hint="take another encoder") from None
    finally:
        encoder.train()
    wanted = [
        (channels, _PROBE // stride, _PROBE // stride)
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    found = [tuple(one.shape[1:]) for one in maps]
    if found != wanted:
        strides = [math.ceil(_PROBE / max(1, shape[-1])) for shape in found]
        raise _no_such_stride(output_stride, where, f"its maps have the strides {', '.join(map(str, strides))}")


def _no_such_stride(output_stride: int, where: str, reason: str) -> InputError:
    hint = "resnet50 and convnext_tiny have 8, 16 and 32; most others only 32"
    return InputError(f"no output stride {output_stride} ({reason})", where=where, hint=hint)


def _reason(error: object) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__

"""Feature maps of torchvision's networks: what its last block at each of the strides 4, 8, 16, 32 puts out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from vice.data_specs.errors import InputError

TORCHVISION = "torchvision/"
"""What torchvision's names begin with in a configuration."""
_SIDE = 128
_STRIDES = (4, 8, 16, 32)


def torchvision_network(encoder: str, levels: Sequence[int], output_stride: int) -> tuple[nn.Module, list[int]]:
    """A network of torchvision with random weights that gives a mapping of maps, and their channels.

    Args:
        encoder: `torchvision/NAME`.
        levels: which of the maps at strides 4, 8, 16, 32.
        output_stride: below 32 the last stages are dilated; only ResNets with bottlenecks can be.

    Raises:
        InputError: no such network, no such maps, or not that output stride.
    """
    where = f"model.encoder={encoder}"
    with torch.random.fork_rng(devices=[]):
        nodes, channels = _last_nodes(whole_network(encoder), where)
    options = {}
    if output_stride < 32:
        options["replace_stride_with_dilation"] = [False, output_stride <= 8, output_stride <= 16]
    try:
        network = whole_network(encoder, **options)
    except (TypeError, NotImplementedError):
        hint = "timm's resnet18 has 8, 16 and 32; torchvision/resnet50 and other ResNets with bottlenecks too"
        raise InputError(f"no output stride {output_stride}", where=where, hint=hint) from None
    extractor = create_feature_extractor(network, {nodes[level]: str(level) for level in levels})
    return extractor, [channels[level] for level in levels]


def whole_network(encoder: str, **options) -> nn.Module:
    """The network with its classifier.

    Raises:
        InputError: torchvision has none of that name.
    """
    name = encoder.removeprefix(TORCHVISION)
    if name not in torchvision.models.list_models(module=torchvision.models):
        hint = "torchvision.models has resnet50, regnet_y_400mf, convnext_tiny, efficientnet_b0, ..."
        raise InputError("torchvision has no such classification network", where=f"model.encoder={encoder}", hint=hint)
    return torchvision.models.get_model(name, weights=None, **options)


@torch.no_grad()
def _last_nodes(network: nn.Module, where: str) -> tuple[list[str], list[int]]:
    """Names and channels of the last map at every stride, found with a picture of zeros."""
    hint = "take a convolutional network (resnet50, convnext_tiny), or one of timm's"
    try:
        names = get_graph_node_names(network)[1]
        outputs = create_feature_extractor(network, names).eval()(torch.zeros(1, 3, _SIDE, _SIDE))
    except (RuntimeError, AssertionError, ValueError, TypeError):
        raise InputError("torchvision cannot trace its maps", where=where, hint=hint) from None
    maps = {name: out.shape for name, out in outputs.items() if isinstance(out, torch.Tensor) and out.ndim == 4}
    # a block may begin at the stride of the one before it: only the last node of each (`layer1.0`, `features.3`) counts
    blocks = {tuple(name.split(".")[:2]): name for name in maps}
    nodes, channels = [], []
    for stride in _STRIDES:
        side = _SIDE // stride
        fitting = [name for name in blocks.values() if tuple(maps[name][2:]) == (side, side)]
        if not fitting:
            raise InputError(f"no map of stride {stride}", where=where, hint=hint)
        nodes.append(fitting[-1])
        channels.append(maps[fitting[-1]][1])
    return nodes, channels

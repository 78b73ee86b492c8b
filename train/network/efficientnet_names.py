"""EfficientNet-PyTorch's names of tensors (`_conv_stem.weight`, `_blocks.3._bn1.bias`) to timm's.

That library, its Lite variant and what was trained with them number blocks through the whole network; timm numbers them
within stages, and what `bn1` means depends on the block. Each name is looked up by the target block's own modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import timm
from torch import Tensor, nn

from vice.data_specs.errors import InputError

_MARK = "_blocks.0._depthwise_conv.weight"
"""A key of every such file."""
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **_SQUEEZE}
"""A block that does not expand its input."""
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_SQUEEZE,
}
"""A block that expands its input, works on it channel by channel, and projects it."""
_KEY = re.compile(r"(?:_blocks\.(?P<block>\d+)\.)?(?P<module>_[a-z]\w*)\.(?P<leaf>\w+)$")


def is_efficientnet_pytorch(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file's keys are EfficientNet-PyTorch's, whatever wrapping modules put before them."""
    return any(key.endswith(_MARK) for key in tensors)


def timm_names(tensors: dict[str, Tensor], whole: nn.Module, encoder: str) -> dict[str, Tensor]:
    """The tensors by timm's names; keys of blocks that the network has not keep their own.

    Args:
        tensors: by EfficientNet-PyTorch's names, with or without a prefix.
        whole: timm's network with its classifier.
        encoder: its name.

    Raises:
        InputError: a network that pads otherwise than these weights were trained.
    """
    if not hasattr(whole, "blocks") or not hasattr(whole, "conv_stem"):
        return tensors
    twin = f"tf_{encoder.partition('.')[0]}"
    if encoder.startswith("efficientnet_") and timm.is_model(twin):
        # shapes fit, padding and epsilon do not: measured with Lite0, the best class of 4 photographs in 10 changes
        what = "these weights are for networks that pad like TensorFlow's, which this one does not"
        raise InputError(what, where=f"model.encoder={encoder}", hint=f"set model.encoder={twin}")
    blocks = [
        (f"blocks.{number}.{index}", _INVERTED if hasattr(block, "conv_pwl") else _SEPARABLE)
        for number, stage in enumerate(whole.blocks)
        for index, block in enumerate(stage)
    ]
    return {_renamed(key, blocks): value for key, value in tensors.items()}


def _renamed(key: str, blocks: list[tuple[str, dict[str, str]]]) -> str:
    """A key by timm's names, behind the prefix that it has."""
    match = _KEY.search(key)
    if match is None:
        return key
    prefix, leaf = key[: match.start()], match["leaf"]
    if match["block"] is None:
        module = _OUTER.get(match["module"])
        return key if module is None else f"{prefix}{module}.{leaf}"
    number = int(match["block"])
    path, names = blocks[number] if number < len(blocks) else ("", {})
    return f"{prefix}{path}.{names[match['module']]}.{leaf}" if match["module"] in names else key

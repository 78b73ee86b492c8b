"""Padding as TensorFlow's (timm's `tf_` networks), as a constant: for graphs that take pictures of any size.

What such a convolution pads depends on its input's size by a formula that torch.export follows symbol by symbol, which
takes minutes for a network of 50. Where every input divides by the stride the formula is a constant.
"""

from __future__ import annotations

from timm.layers import Conv2dSame
from torch import nn


def fix_same_padding(module: nn.Module) -> None:
    """Give convolutions that pad as TensorFlow's a padding of their own, for inputs whose sides divide by their stride.

    So it is where a picture's sides are multiples of the network's largest stride. Keys of the state dict change.

    Args:
        module: changed in place.
    """
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame):
            setattr(module, name, nn.Sequential(nn.ZeroPad2d(_padding(child)), _without_padding(child)))
        else:
            fix_same_padding(child)


def _padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Left, right, top, bottom; the odd cell lies right and below."""
    sides = zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
    rows, columns = (max((size - 1) * dilation + 1 - stride, 0) for size, stride, dilation in sides)
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def _without_padding(conv: nn.Conv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    return plain.train(conv.training)

"""A pyramid of maps from the one map of a plain vision transformer, as ViTDet has it (Li et al. 2022, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from timm.layers import LayerNorm2d
from torch import Tensor, nn


class SimplePyramid(nn.Module):
    """Maps at several strides out of one: transposed convolutions upwards, max pooling downwards, a norm at the end.

    The 1×1 and 3×3 convolutions that follow in ViTDet are the decoder's own here.

    Args:
        channels: of the tokens.
        token_stride: picture pixels a token, a power of 2.
        strides: of the maps wanted, powers of 2.
    """

    def __init__(self, channels: int, *, token_stride: int, strides: Sequence[int]):
        super().__init__()
        self.token_stride, self.token_channels = token_stride, channels
        self.levels = nn.ModuleList(_level(channels, token_stride, stride) for stride in strides)
        self.channels = [channels * min(stride, token_stride) // token_stride for stride in strides]
        """Of every map: each doubling of the resolution halves them."""

    def forward(self, tokens: Float[Tensor, "v c th tw"]) -> list[Tensor]:
        """One map a stride."""
        return [level(tokens) for level in self.levels]


def _level(channels: int, token_stride: int, stride: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    while token_stride > stride:
        layers += [nn.ConvTranspose2d(channels, channels // 2, 2, stride=2), LayerNorm2d(channels // 2), nn.GELU()]
        channels, token_stride = channels // 2, token_stride // 2
    if layers:
        return nn.Sequential(*layers[:-1])  # the last one's activation is left out
    pooling = [nn.MaxPool2d(stride // token_stride)] if stride > token_stride else []
    return nn.Sequential(*pooling, LayerNorm2d(channels))

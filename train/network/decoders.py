"""Decoders: feature maps to one at a quarter of the picture; those of segmentation-models-pytorch, fitted to strides.

Neither has dropout, so that a step depends on nothing but weights and batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNBlock, FPNDecoder, SegmentationBlock
from torch import Tensor, nn

LEVELS = {"fpn": (0, 1, 2, 3), "deeplabv3plus": (0, 3)}
"""Which of an encoder's maps, from stride 4 on, each decoder reads."""


class FPN(FPNDecoder):
    """Feature pyramid for segmentation (Kirillov et al. 2019), also over maps that are dilated instead of strided.

    Args:
        channels: of the encoder's four maps.
        strides: of the same, not falling, the first one 4.
        width: channels of the pyramid; the output has half as many.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, width: int):
        super().__init__([0, 0, *channels], pyramid_channels=width, segmentation_channels=width // 2, dropout=0.0)
        # the library takes strides of 4, 8, 16, 32 for granted: neighbours of one stride are added as they are,
        # and a level is upsampled as often as it is coarser than 4
        for level, (finer, coarser) in enumerate(pairwise(strides)):
            if finer == coarser:
                setattr(self, f"p{level + 2}", _SameSizeBlock(width, channels[level]))
        for place, stride in enumerate(reversed(strides)):
            if stride != 32 >> place:
                self.seg_blocks[place] = SegmentationBlock(width, width // 2, n_upsamples=int(math.log2(stride // 4)))


class DeepLabV3Plus(DeepLabV3PlusDecoder):
    """DeepLabV3+ (Chen et al. 2018) with separable convolutions.

    Its rates are 6, 12, 18 at output stride 16 (the paper), twice that at 8 and half at 32: the same reach in pixels.

    Args:
        channels: of the encoder's map of stride 4 and of its last one.
        strides: of the same.
        width: channels of the output.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, width: int):
        fine, coarse = channels
        super().__init__(
            encoder_channels=[0, 0, fine, coarse],
            encoder_depth=3,
            out_channels=width,
            atrous_rates=[rate * 16 // strides[-1] for rate in (6, 12, 18)],
            output_stride=8,
            aspp_separable=True,
            aspp_dropout=0.0,
        )
        self.out_channels = width
        # the library has factors for output strides 8 and 16 only
        factor = strides[-1] // strides[0]
        self.up = nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "v c h4 w4"]:
        """A map of the first one's size."""
        fine, coarse = features
        # the library reads the third map of its own encoders, that of stride 4, and the last one
        return super().forward([fine, fine, fine, coarse])


class _SameSizeBlock(FPNBlock):
    """A pyramid's step between two maps of one size."""

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return x + self.skip_conv(skip)

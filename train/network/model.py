"""The network: encoder and decoder (pictures to embedding maps), and the concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from torch import Tensor, nn

from vice.train.config import ModelConfig, TrainConfig
from vice.train.network.batch_norm import freeze_batch_norms
from vice.train.network.decoders import FPN, LEVELS, DeepLabV3Plus
from vice.train.network.encoders import STRIDES, Encoder, build_encoder
from vice.train.network.frozen_levels import freeze_levels
from vice.train.network.linear_maps import LinearMaps
from vice.train.network.pooling import RegionWeights, pool_regions
from vice.train.network.public_weights import normalisation

ALL_LEVELS = tuple(range(len(STRIDES)))
"""Every map of an encoder, for the linear map of `model.start=encoder`."""
OUTPUT_STRIDE = 4
"""Picture pixels a cell of the embedding map."""


class DenseModel(nn.Module):
    """Pictures to embedding maps at a quarter of their size (f_θ of Eq. 1, before upsampling).

    Args:
        config: encoder, decoder, embedding dimension.

    Raises:
        InputError: no such encoder, or it cannot do what is asked of it.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embedding_dim = config.embedding_dim
        from_encoder = config.start == "encoder"
        levels = ALL_LEVELS if from_encoder else LEVELS[config.decoder]
        self.encoder = build_encoder(config, levels)
        self.encoder.normalise_as(*normalisation(config.encoder, config.weights))
        freeze_levels(self.encoder, config.frozen_levels)
        if config.freeze_batch_norm:
            freeze_batch_norms(self.encoder)
        self._read_by_decoder = [levels.index(level) for level in LEVELS[config.decoder]]
        self.decoder = _decoder(config, self.encoder, self._read_by_decoder)
        self.head = nn.Conv2d(self.decoder.out_channels, config.embedding_dim, 1)
        initialize_decoder(self.decoder)
        initialize_head(self.head)
        self.linear = LinearMaps(self.encoder.channels, config.embedding_dim) if from_encoder else None
        if from_encoder:
            # what the decoder adds to the linear map grows from nothing
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.centre = nn.BatchNorm2d(config.embedding_dim, affine=False) if config.centre else nn.Identity()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: without a compiled `raw`, which would go on computing with this model's weights."""
        state = super().__getstate__()
        state.pop("raw", None)
        return state

    @property
    def size_multiple(self) -> int:
        """Sides of pictures must be multiples of this."""
        return self.encoder.size_multiple

    def forward(self, images: Float[Tensor, "v 3 h w"]) -> Float[Tensor, "v d gh gw"]:
        """Embedding maps, unit length per cell."""
        return F.normalize(self.raw(images), dim=1)

    def raw(self, images: Float[Tensor, "v 3 h w"]) -> Float[Tensor, "v d gh gw"]:
        """The decoder's output, before normalisation."""
        maps = self.encoder(images.contiguous(memory_format=torch.channels_last))
        decoded = self.head(self.decoder([maps[index] for index in self._read_by_decoder]))
        if self.linear is not None:
            decoded = decoded + self.linear(maps)
        return self.centre(decoded).float()


class RegionModel(nn.Module):
    """What is trained: the dense model, region pooling, and scores against the concepts (Eq. 2)."""

    def __init__(self, config: TrainConfig):
        super().__init__()
        self.dense = DenseModel(config.model)
        self.normalize = config.assignment.normalize
        self.concepts = nn.Parameter(torch.randn(config.assignment.num_concepts, config.model.embedding_dim))
        self.normalise_concepts()

    def forward(
        self,
        images: Float[Tensor, "m n 3 h w"],
        weights: RegionWeights,
        num_regions: int,
        rows: Int64[Tensor, " b"],
    ) -> tuple[Float[Tensor, "m b d"], Float[Tensor, "m b k"]]:
        """Region embeddings (unit length) and their scores.

        Args:
            images: the batch's views.
            weights: of the regions in maps of `map_size`.
            num_regions: of each picture, padded (r).
            rows: the regions wanted, as picture × r + region.
        """
        m, n = images.shape[:2]
        views = images.flatten(0, 1)
        maps = self.dense(views) if self.normalize == "pixel" else self.dense.raw(views)
        pooled = pool_regions(maps.unflatten(0, (m, n)), weights, num_regions)
        embeddings = F.normalize(pooled.flatten(1, 2).index_select(1, rows), dim=-1)
        # cosines of float32 vectors, whatever the network's own arithmetic is
        with torch.autocast(images.device.type, enabled=False):
            return embeddings, embeddings @ self.concepts.T

    @torch.no_grad()
    def normalise_concepts(self) -> None:
        """Bring the concepts back to unit length, so that scores are cosines."""
        self.concepts.copy_(F.normalize(self.concepts, dim=1))


def build_model(config: TrainConfig) -> RegionModel:
    """A model with the random weights that the configuration's seed gives, leaving torch's global generator alone.

    Pretrained weights are put in by `weights.initialise`, where a run begins: one that goes on needs them no more.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return RegionModel(config).to(memory_format=torch.channels_last)


def map_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the embedding map of a view."""
    return height // OUTPUT_STRIDE, width // OUTPUT_STRIDE


def _decoder(config: ModelConfig, encoder: Encoder, levels: Sequence[int]) -> nn.Module:
    """The configured decoder over some of the encoder's maps."""
    kind = {"fpn": FPN, "deeplabv3plus": DeepLabV3Plus}[config.decoder]
    channels, strides = ([of[index] for index in levels] for of in (encoder.channels, encoder.strides))
    return kind(channels, strides, width=config.decoder_channels)

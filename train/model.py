"""The network: an encoder with an FPN or DeepLabV3+ decoder that maps pictures to embedding maps, and the concepts."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vice.data_specs.errors import InputError
from vice.train.config import ModelConfig, TrainConfig
from vice.train.pooling import pool_regions


class DenseModel(nn.Module):
    """Pictures to embedding maps at a quarter of their size (f_θ of Eq. 1, before upsampling).

    Args:
        config: encoder, decoder, embedding dimension.

    Raises:
        InputError: no such encoder, or its public weights cannot be fetched.
    """

    size_multiple = 32
    """Sides of pictures must be multiples of this."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.embedding_dim = config.embedding_dim
        self.network = _network(config)
        self.centre = nn.BatchNorm2d(config.embedding_dim, affine=False) if config.centre else nn.Identity()

    def forward(self, images: Float[Tensor, "v 3 h w"]) -> Float[Tensor, "v d gh gw"]:
        """Embedding maps, unit length per cell."""
        return F.normalize(self.raw(images), dim=1)

    def raw(self, images: Float[Tensor, "v 3 h w"]) -> Float[Tensor, "v d gh gw"]:
        """The decoder's output, before normalisation."""
        return self.centre(self.network(images.contiguous(memory_format=torch.channels_last))).float()


class RegionModel(nn.Module):
    """What is trained: the dense model, region pooling, and scores against the concepts (Eq. 2)."""

    def __init__(self, config: TrainConfig):
        super().__init__()
        self.dense = DenseModel(config.model)
        self.normalize = config.assignment.normalize
        self.concepts = nn.Parameter(torch.randn(config.assignment.num_concepts, config.model.embedding_dim))
        self.normalise_concepts()

    def forward(
        self, images: Float[Tensor, "m n 3 h w"], weights_of, num_regions: int
    ) -> tuple[Float[Tensor, "m n r d"], Float[Tensor, "m n r k"]]:
        """Region embeddings (unit length) and their scores.

        Args:
            images: the batch's views.
            weights_of: map size (rows, columns) to pooling weights; called once.
            num_regions: of each picture, padded (r).
        """
        m, n = images.shape[:2]
        views = images.flatten(0, 1)
        maps = self.dense(views) if self.normalize == "pixel" else self.dense.raw(views)
        pooled = pool_regions(maps.unflatten(0, (m, n)), weights_of(maps.shape[2:]), num_regions)
        embeddings = F.normalize(pooled, dim=-1)
        # cosines of float32 vectors, whatever the network's own arithmetic is
        with torch.autocast(images.device.type, enabled=False):
            return embeddings, embeddings @ self.concepts.T

    @torch.no_grad()
    def normalise_concepts(self) -> None:
        """Bring the concepts back to unit length, so that scores are cosines."""
        self.concepts.copy_(F.normalize(self.concepts, dim=1))


def build_model(config: TrainConfig) -> RegionModel:
    """A model with the initial weights that the configuration's seed gives, leaving torch's global generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return RegionModel(config).to(memory_format=torch.channels_last)


def _network(config: ModelConfig) -> nn.Module:
    arguments = {
        "encoder_name": _encoder_name(config.encoder),
        "encoder_weights": None if config.weights == "none" else config.weights,
        "classes": config.embedding_dim,
        # no upsampling: pooling and evaluation interpolate linearly themselves
        "upsampling": 1,
    }
    try:
        if config.decoder == "fpn":
            width = config.decoder_channels
            return smp.FPN(
                **arguments,
                decoder_pyramid_channels=width,
                decoder_segmentation_channels=width // 2,
                decoder_dropout=0.0,
            )
        return smp.DeepLabV3Plus(**arguments, decoder_channels=config.decoder_channels)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        hint = "name an encoder of timm; public weights need network, weights=none does not"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot build the network ({reason})", where=f"model.encoder={config.encoder}", hint=hint
        ) from None


def _encoder_name(name: str) -> str:
    """The name under which segmentation-models-pytorch knows the encoder; timm's carry the prefix `tu-`."""
    return name if name in smp.encoders.encoders else f"tu-{name.removeprefix('tu-')}"

"""Backbones without a decoder of ours: networks of timm and torchvision, and the encoder that a run started from."""

from __future__ import annotations

import torch

from vice.data_specs.entries import Levels
from vice.train.config import ModelConfig, TrainConfig
from vice.train.network.encoders import Encoder as Backbone
from vice.train.network.encoders import build_encoder
from vice.train.network.public_weights import normalisation
from vice.train.network.weights import initialise

NUMBERS: dict[Levels, tuple[int, ...]] = {"all": (0, 1, 2, 3), "last": (3,)}
"""Which of the maps at strides 4, 8, 16, 32; a plain vision transformer has one map either way."""


def build_backbone(config: ModelConfig, *, levels: Levels, seed: int) -> Backbone:
    """A backbone with the configured weights, which takes pictures normalised as the loader does.

    Args:
        config: its name, weights and output stride.
        levels: which of its maps it gives.
        seed: of random weights.

    Raises:
        InputError: no such network or weights, or they do not fit.
    """
    # without a gradient there is nothing to compute again
    plain = config.model_copy(update={"activation_checkpointing": False})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_encoder(plain, NUMBERS[levels])
    initialise(backbone, plain)
    backbone.normalise_as(*normalisation(plain.encoder, plain.weights))
    backbone.leave_out_pyramid()
    return backbone


def backbone_of_run(config: TrainConfig) -> Backbone:
    """The encoder of a run as training found it, with all of its maps: pretrained, or random by the run's seed.

    Raises:
        InputError: the pretrained weights are not available any more.
    """
    return build_backbone(config.model, levels="all", seed=config.seed)

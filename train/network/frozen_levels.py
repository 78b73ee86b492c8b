"""The first part of an encoder with weights that stay as they came: steps are faster, and edges are seen as before."""

from __future__ import annotations

import torch

from vice.data_specs.errors import InputError
from vice.train.network.encoders import Encoder

_SIDE = 64


def freeze_levels(encoder: Encoder, count: int) -> None:
    """Take the gradient from all parameters that the first maps depend on, found by a gradient through a small picture.

    Args:
        encoder: changed in place.
        count: maps, the finest first; 0 changes nothing.

    Raises:
        InputError: nothing would be left to train.
    """
    if not count:
        return
    named = list(encoder.named_parameters())
    was_training = encoder.training
    encoder.eval()
    maps = encoder(torch.zeros(1, 3, _SIDE, _SIDE))
    encoder.train(was_training)
    found = torch.autograd.grad(
        sum(one.sum() for one in maps[:count]), [parameter for _, parameter in named], allow_unused=True
    )
    frozen = [parameter for (_, parameter), gradient in zip(named, found, strict=True) if gradient is not None]
    if len(frozen) == len(named):
        hint = "lower it: each map of this encoder depends on all of its weights, or no map would be left"
        raise InputError(f"{count} frozen maps leave nothing to train", where="model.frozen_levels", hint=hint)
    for parameter in frozen:
        parameter.requires_grad_(False)

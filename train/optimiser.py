"""Optimiser (LARS or AdamW), what each group of parameters gets, and the learning rate of a step.

| parameters | weight decay | LARS's trust ratio | rate |
|---|---|---|---|
| matrices and convolutions | yes | yes | the encoder's times `encoder_factor` |
| biases, norms, and what timm exempts (`no_weight_decay`) | no | no | the same |
| concepts | no | yes | full |

The trust ratio does not depend on whether there is weight decay (You et al. 2017). Concepts get it since they are of
unit length: with it they turn by a small angle a step at LARS's large rates, without it by degrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import timm
import torch
from timm.optim import Lars
from torch import nn

from vice.train.config import OptimiserConfig, TrainConfig
from vice.train.network.model import RegionModel
from vice.train.network.torchvision_maps import TORCHVISION


def learning_rate(step: int, num_steps: int, *, peak: float, config: OptimiserConfig) -> float:
    """Rate of a step, 0 ≤ step < num_steps: linear warm-up, then cosine."""
    warmup = round(config.warmup * num_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    return peak * (config.final + (1 - config.final) * (1 + math.cos(math.pi * progress)) / 2)


def build_optimiser(model: RegionModel, config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimiser; each group carries `rate_factor`, and `is_encoder` where it may be frozen for a while.

    Args:
        model: as it is called, on its device.
        config: the resolved configuration.
    """
    groups = list(_groups(model, config))
    if config.optimiser.name == "lars":
        return Lars(groups, lr=config.peak_learning_rate, momentum=0.9, trust_coeff=1e-3)
    return torch.optim.AdamW(groups, lr=config.peak_learning_rate, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float, *, freeze_encoder: bool) -> None:
    """Give every group its share of a step's rate; parameters without a gradient are left alone by the optimiser.

    Args:
        optimiser: of `build_optimiser`.
        rate: of the step.
        freeze_encoder: drop the encoder's gradients, so that neither it nor its moments move.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate * group["rate_factor"]
        if freeze_encoder and group["is_encoder"]:
            for parameter in group["params"]:
                parameter.grad = None


def _groups(model: RegionModel, config: TrainConfig) -> Iterator[dict[str, Any]]:
    exempt = _without_decay(model, config)
    for is_encoder in (True, False):
        factor = config.optimiser.encoder_factor if is_encoder else 1.0
        named = [
            (name, parameter)
            for name, parameter in model.named_parameters()
            if name.startswith("dense.encoder.") == is_encoder and name != "concepts" and parameter.requires_grad
        ]
        for decayed in (True, False):
            parameters = [
                parameter for name, parameter in named if (parameter.ndim > 1 and name not in exempt) == decayed
            ]
            if parameters:
                decay = config.weight_decay if decayed else 0.0
                yield _group(parameters, config, decay=decay, adapt=decayed, factor=factor, is_encoder=is_encoder)
    yield _group([model.concepts], config, decay=0.0, adapt=True, factor=1.0, is_encoder=False)


def _group(
    parameters: list[nn.Parameter], config: TrainConfig, *, decay: float, adapt: bool, factor: float, is_encoder: bool
) -> dict[str, Any]:
    group = {"params": parameters, "weight_decay": decay, "rate_factor": factor, "is_encoder": is_encoder}
    # timm's LARS otherwise adapts just the groups with weight decay
    return {**group, "always_adapt": adapt} if config.optimiser.name == "lars" else group


def _without_decay(model: RegionModel, config: TrainConfig) -> set[str]:
    """Names of the encoder's parameters that timm exempts from weight decay (position embeddings, ...)."""
    if config.model.encoder.startswith(TORCHVISION):
        return set()
    with torch.device("meta"):
        whole = timm.create_model(config.model.encoder)
    exempt = {_plain(name) for name in getattr(whole, "no_weight_decay", set)()}
    prefixes = ("dense.encoder.network.model.", "dense.encoder.network.")
    found = set()
    for name, _ in model.named_parameters():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix and any(_plain(name.removeprefix(prefix)).endswith(one) for one in exempt):
            found.add(name)
    return found


def _plain(name: str) -> str:
    """A parameter's name as timm's wrappers of feature maps spell it (`stages_0` for `stages.0`)."""
    return name.replace(".", "_")

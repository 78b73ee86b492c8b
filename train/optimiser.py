"""Optimiser (LARS or AdamW) and the learning rate of a step: linear warm-up, then cosine."""

from __future__ import annotations

import math

import torch
from timm.optim import Lars
from torch import nn

from vice.train.config import OptimiserConfig, TrainConfig


def learning_rate(step: int, num_steps: int, *, peak: float, config: OptimiserConfig) -> float:
    """Rate of a step, 0 ≤ step < num_steps."""
    warmup = round(config.warmup * num_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    return peak * (config.final + (1 - config.final) * (1 + math.cos(math.pi * progress)) / 2)


def build_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimiser; biases, norms and concepts are not decayed (nor, by LARS, adapted)."""
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and name != "concepts"]
    plain = [p for name, p in model.named_parameters() if p.ndim <= 1 or name == "concepts"]
    groups = [
        {"params": decayed, "weight_decay": config.optimiser.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if config.optimiser.name == "lars":
        return Lars(groups, lr=config.peak_learning_rate, momentum=0.9, trust_coeff=1e-3)
    return torch.optim.AdamW(groups, lr=config.peak_learning_rate)

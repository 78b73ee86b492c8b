"""An exponential moving average of the network's weights, which may make the assignments (`assignment.source=ema`)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from vice.train.network.model import RegionModel


class MovingAverage:
    """A copy of a model whose parameters follow it slowly (mean teacher: Tarvainen and Valpola 2017).

    It sees views in training mode, as the model does, so its batch norms keep statistics of their own.

    Args:
        model: to follow; copied now.
        decay: of the average, a step.
    """

    def __init__(self, model: RegionModel, decay: float):
        self.model = deepcopy(model).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def reset(self, model: RegionModel) -> None:
        """Be equal to a model."""
        self.model.load_state_dict(model.state_dict())

    @torch.no_grad()
    def update(self, model: RegionModel) -> None:
        """Take a step's weights into the average; its concepts keep unit length."""
        pairs = list(zip(self.model.parameters(), model.parameters(), strict=True))
        torch._foreach_lerp_([ours for ours, _ in pairs], [theirs.detach() for _, theirs in pairs], 1 - self._decay)
        self.model.normalise_concepts()

    def state_dict(self) -> dict[str, Any]:
        """The average's weights."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state."""
        self.model.load_state_dict(state)

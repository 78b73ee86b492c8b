"""Batch norms of any network: shared statistics over processes, and statistics that stay as they are.

Both change modules of a network that is built. What a subclass does besides normalising, as timm's `BatchNormAct2d`
with its activation, is kept: a network computes the same before and after.
"""

from __future__ import annotations

from functools import cache
from typing import Self

import timm.layers
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class FrozenStatistics:
    """Mixin of batch norms that use their running statistics in training too and never change them."""

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the network around it does."""
        return super().train(False)


def synchronise_batch_norms(module: nn.Module) -> nn.Module:
    """Let batch norms take their statistics over the batches of all processes, except frozen ones, which take none.

    torch's own conversion makes plain norms of timm's `BatchNormAct2d` and so loses its activation; timm's keeps it.
    Parameters and buffers stay the same tensors.

    Args:
        module: changed in place.

    Returns:
        The module, or its replacement where it is a batch norm itself.
    """
    if isinstance(module, FrozenStatistics):
        return module
    if isinstance(module, _BatchNorm):
        return timm.layers.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        module.add_module(name, synchronise_batch_norms(child))
    return module


def freeze_batch_norms(module: nn.Module) -> None:
    """Keep all batch norms of a module in evaluation mode for good: `module.train()` does not reach them.

    Scale and shift stay parameters that can be trained. Keys of the state dict stay; copies are frozen too.

    Args:
        module: changed in place, before or after it is wrapped, converted or moved.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm) and not isinstance(part, FrozenStatistics):
            part.__class__ = _frozen(type(part))
            part.eval()


@cache
def _frozen(kind: type[nn.Module]) -> type[nn.Module]:
    """A class of batch norms with frozen statistics; one per class, so that copies share it."""
    return type(f"Frozen{kind.__name__}", (FrozenStatistics, kind), {"__module__": __name__})

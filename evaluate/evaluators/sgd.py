"""The paper's linear probe: softmax regression by SGD with momentum and a polynomial schedule, for several rates.

The rates share their batches: one matrix product scores the probes of all of them. The authors train 12,000
iterations at 0.01, momentum 0.9, weight decay 5e-4, power 0.9. Here batches are of drawn pixels rather than of whole
pictures, and pixels without a class take no part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Integer

from vice.evaluate.counters import raw_draws
from vice.evaluate.evaluators.heads import AffineHead
from vice.evaluate.evaluators.held_out import held_out, miou
from vice.evaluate.evaluators.softmax_regression import LinearFit
from vice.evaluate.options import SgdSettings


def fit_by_sgd(
    vectors: Float32[np.ndarray, "n d"],
    labels: Integer[np.ndarray, " n"],
    pictures: Integer[np.ndarray, " n"],
    *,
    num_classes: int,
    settings: SgdSettings,
    seed: int,
) -> dict[str, LinearFit]:
    """Probes by variant: the empty name is the best rate's; `lr-0.01` and so on each rate's own.

    Args:
        vectors: embeddings at labelled pixels.
        labels: their classes, 0..num_classes-1.
        pictures: number of the picture of each.
        num_classes: of the probe.
        settings: rates and schedule.
        seed: of the batches.
    """
    out = held_out(pictures) if len(settings.learning_rates) > 1 else np.zeros(len(labels), bool)
    heads, losses = _train(vectors[~out], labels[~out], num_classes, settings, seed)
    told = [{"learning_rate": r, "loss": loss} for r, loss in zip(settings.learning_rates, losses, strict=True)]
    shares = [0.0] * len(heads)
    if out.any():
        shares = [miou(head, vectors[out], labels[out], num_classes) for head in heads]
        told = [one | {"miou_on_held_out_pixels": share} for one, share in zip(told, shares, strict=True)]
    best = int(np.argmax(shares))
    fits = {
        f"lr-{rate:g}": LinearFit(*parts) for rate, *parts in zip(settings.learning_rates, heads, told, strict=True)
    }
    return {"": LinearFit(heads[best], told[best]), **(fits if len(fits) > 1 else {})}


def _train(
    vectors: np.ndarray, labels: np.ndarray, num_classes: int, settings: SgdSettings, seed: int
) -> tuple[Sequence[AffineHead], list[float]]:
    """A head per learning rate, and the mean loss of the last hundred batches."""
    x, y = torch.from_numpy(vectors), torch.from_numpy(labels.astype(np.int64))
    rates = torch.tensor(settings.learning_rates)
    # one column of ones carries the bias; weight decay takes it too, as in the authors' code
    weight = torch.zeros(len(rates), num_classes, x.shape[1] + 1)
    velocity = torch.zeros_like(weight)
    losses = []
    for iteration in range(settings.iterations):
        drawn = raw_draws(seed, "batches", iteration, settings.batch_size) % np.uint64(len(x))
        batch = torch.from_numpy(drawn.astype(np.int64))
        inputs = torch.cat([x[batch], torch.ones(len(batch), 1)], dim=1)
        logarithms = torch.log_softmax((inputs @ weight.flatten(0, 1).T).unflatten(1, weight.shape[:2]), dim=2)
        targets = y[batch][:, None, None].expand(-1, len(rates), 1)
        losses.append(-logarithms.gather(2, targets).mean(dim=(0, 2)))
        error = logarithms.exp_().scatter_add_(2, targets, torch.full(targets.shape, -1.0))
        gradient = (error.flatten(1, 2).T @ inputs).unflatten(0, weight.shape[:2]) / len(batch)
        velocity.mul_(settings.momentum).add_(gradient).add_(weight, alpha=settings.weight_decay)
        schedule = (1 - iteration / settings.iterations) ** settings.power
        weight -= (schedule * rates)[:, None, None] * velocity
    numbers = weight.numpy()
    heads = [AffineHead(np.ascontiguousarray(one[:, :-1]), np.ascontiguousarray(one[:, -1])) for one in numbers]
    return heads, torch.stack(losses[-100:]).mean(dim=0).tolist()

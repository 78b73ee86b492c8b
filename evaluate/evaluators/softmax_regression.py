"""The linear probe's fit: softmax regression on frozen vectors, which on a map is a 1×1 convolution.

The problem is convex; full-batch L-BFGS from zero has no seed, no learning rate and no schedule to tune. Vectors of
each encoder are standardised first, so that an L2 penalty means the same for embeddings of any scale. How strong it
must be depends on their number of values; since it is chosen for each encoder, a comparison favours neither narrow nor
wide ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer
from scipy.optimize import minimize
from torch import Tensor

from vice.evaluate.evaluators.heads import AffineHead
from vice.evaluate.evaluators.held_out import held_out, miou
from vice.evaluate.options import ProbeSettings

VECTORS_AT_ONCE = 1 << 16
"""Vectors whose logits are held at a time; also fixes the order of the sums."""

VARIANCE_FLOOR = 1e-3
"""Added to the variance (1 on average) of each principal direction before scaling by it; speeds, does not decide."""

NEVER = -1e30
"""Bias of a class without vectors. Finite, since upsampling multiplies it by weights that may be 0."""

PENALTIES = (1e-3, 1e-4, 1e-5)
"""That are tried; of equally good ones the strongest is taken."""
MIDDLE_PENALTY = 1e-4
"""Where there are too few pictures to hold some out."""

DEFAULTS = ProbeSettings()


class LinearFit(NamedTuple):
    """A fitted probe and how the fit ended."""

    head: AffineHead
    """For embeddings as they are: what the fit did to them is folded in."""
    told: dict[str, Any]
    """For the record: the loss (in nats, penalty included), and what else tells how the fit went."""


def fit_quickly(
    vectors: Float32[np.ndarray, "n d"],
    labels: Integer[np.ndarray, " n"],
    pictures: Integer[np.ndarray, " n"],
    *,
    num_classes: int,
    settings: ProbeSettings = DEFAULTS,
) -> LinearFit:
    """Fit by `fit_linear`; where no penalty is given, with the one that does best on held-out pictures.

    Args:
        vectors: embeddings at labelled pixels.
        labels: their classes, 0..num_classes-1.
        pictures: number of the picture of each vector.
        num_classes: of the probe.
        settings: penalty and stopping rule.
    """
    if settings.l2 is not None:
        return fit_linear(vectors, labels, num_classes=num_classes, l2=settings.l2, settings=settings)
    out = held_out(pictures)
    if not out.any():
        return fit_linear(vectors, labels, num_classes=num_classes, l2=MIDDLE_PENALTY, settings=settings)
    shares = {}
    for l2 in PENALTIES:
        fit = fit_linear(vectors[~out], labels[~out], num_classes=num_classes, l2=l2, settings=settings)
        shares[l2] = miou(fit.head, vectors[out], labels[out], num_classes)
    best = max(shares, key=shares.__getitem__)
    fit = fit_linear(vectors, labels, num_classes=num_classes, l2=best, settings=settings)
    tried = {f"{l2:g}": share for l2, share in shares.items()}
    return fit._replace(told=fit.told | {"miou_on_held_out_pixels_by_l2": tried})


def fit_linear(
    vectors: Float32[np.ndarray, "n d"],
    labels: Integer[np.ndarray, " n"],
    *,
    num_classes: int,
    l2: float,
    settings: ProbeSettings = DEFAULTS,
) -> LinearFit:
    """Fit softmax regression by full-batch L-BFGS from zero weights.

    Args:
        vectors: embeddings at labelled pixels.
        labels: their classes, 0..num_classes-1.
        num_classes: of the probe; a class without vectors is never predicted.
        l2: penalty.
        settings: stopping rule.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    std = vectors.std(axis=0, dtype=np.float64)
    std[std < 1e-8] = 1  # a constant dimension says nothing; dividing by its rounding noise would make it say something
    standard = np.ascontiguousarray(((vectors - mean.astype(np.float32)) / std.astype(np.float32)).T)
    problem = _Problem(torch.from_numpy(standard), torch.from_numpy(labels.astype(np.int64)), num_classes, l2)
    result = minimize(
        problem.loss_and_gradient,
        np.zeros(num_classes * (vectors.shape[1] + 1)),
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": settings.max_iterations,
            "maxcor": 20,
            "gtol": settings.gradient_tolerance,
            "ftol": settings.loss_tolerance,
        },
    )
    weight, bias = problem.weight_and_bias(result.x)
    weight = weight / std
    bias = bias - weight @ mean
    bias[np.bincount(labels, minlength=num_classes) == 0] = NEVER
    head = AffineHead(weight.astype(np.float32), bias.astype(np.float32))
    told = {"l2": l2, "loss": float(result.fun), "iterations": int(result.nit), "converged": bool(result.success)}
    return LinearFit(head, told)


class _Problem:
    """The loss of a probe on standardised vectors (as columns), over variables in which it is well conditioned.

    Dimensions of an embedding are strongly correlated; in the weights themselves L-BFGS then takes many hundred
    iterations. Along the vectors' principal directions, each scaled to unit variance, it takes about a hundred; the
    minimum, penalty included, is the same.
    """

    def __init__(self, vectors: Float[Tensor, "d n"], labels: Integer[Tensor, " n"], num_classes: int, l2: float):
        self._vectors, self._labels, self._num_classes, self._l2 = vectors, labels, num_classes, l2
        variance, directions = np.linalg.eigh((vectors @ vectors.T).double().numpy() / vectors.shape[1])
        # The floor keeps directions that hold only rounding noise from being blown up.
        self._to_weight = (directions / np.sqrt(np.maximum(variance, 0) + VARIANCE_FLOOR)).T

    def weight_and_bias(self, variables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights [c, d] and biases [c] on the standardised vectors, float64."""
        table = variables.reshape(self._num_classes, -1)
        return table[:, :-1] @ self._to_weight, table[:, -1]

    def loss_and_gradient(self, variables: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean cross-entropy plus penalty, and its gradient by the variables.

        Products are float32, sums over parts float64. With few classes, products and the softmax are several times as
        fast on columns as on rows.
        """
        weight, bias = self.weight_and_bias(variables)
        weight32, bias32 = (torch.from_numpy(part.astype(np.float32)) for part in (weight, bias))
        loss, by_weight, by_bias = 0.0, np.zeros_like(weight), np.zeros_like(bias)
        parts = zip(self._vectors.split(VECTORS_AT_ONCE, dim=1), self._labels.split(VECTORS_AT_ONCE), strict=True)
        for vectors, labels in parts:
            logarithms = torch.log_softmax(torch.addmm(bias32[:, None], weight32, vectors), dim=0)
            loss -= float(logarithms.gather(0, labels[None]).sum(dtype=torch.float64))
            error = logarithms.exp_()
            error.scatter_add_(0, labels[None], torch.full((1, len(labels)), -1.0))
            by_weight += (error @ vectors.T).numpy()
            by_bias += error.sum(dim=1, dtype=torch.float64).numpy()
        count = len(self._labels)
        by_weight = by_weight / count + self._l2 * weight
        gradient = np.concatenate([by_weight @ self._to_weight.T, by_bias[:, None] / count], axis=1)
        return loss / count + 0.5 * self._l2 * float(np.square(weight).sum()), gradient.reshape(-1)

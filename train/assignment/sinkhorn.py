"""Optimal transport of regions to concepts by Sinkhorn-Knopp, over all processes (paper, section 3.3)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vice.train.distributed import max_over_processes, sum_over_processes


@torch.no_grad()
def sinkhorn(scores: Float[Tensor, "b k"], *, epsilon: float, iterations: int) -> Float[Tensor, "b k"]:
    """Distribute all processes' regions evenly over the concepts while keeping the scores high.

    In the log domain and float32: scores of any size stay finite. Counts are the true ones, so processes may have
    different numbers of regions, or none.

    Args:
        scores: cosines of this process's regions with the concepts.
        epsilon: entropy of the transport.
        iterations: of scaling columns, then rows.

    Returns:
        Rows that sum to 1; over all processes the columns tend to the same sum.
    """
    total = sum_over_processes(torch.tensor(float(len(scores)), device=scores.device))
    plan = scores.float() / epsilon
    for _ in range(iterations):
        plan = plan - _logsumexp_over_all_rows(plan) - math.log(plan.shape[1])
        plan = plan - plan.logsumexp(1, keepdim=True) - total.log()
    return (plan + total.log()).exp()


def _logsumexp_over_all_rows(values: Float[Tensor, "b k"]) -> Float[Tensor, " k"]:
    """Logarithm of the sum over the rows of all processes of the exponential."""
    lowest = torch.finfo(values.dtype).min
    local = values.max(0).values if len(values) else values.new_full(values.shape[1:], lowest)
    largest = max_over_processes(local)
    return largest + sum_over_processes((values - largest).exp().sum(0)).log()

"""Sinkhorn: its marginals, a plain float64 reference, scores of any size."""

import numpy as np
import pytest
import torch

from vice.train.assignment.sinkhorn import sinkhorn


def scores(rows, columns, seed=0):
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def reference(values, epsilon, iterations):
    """SwAV's listing: exponentiate, then scale columns and rows in turn (Caron et al. 2020, appendix A)."""
    plan = np.exp(values.double().numpy() / epsilon)
    plan /= plan.sum()
    for _ in range(iterations):
        plan /= plan.sum(0, keepdims=True) * plan.shape[1]
        plan /= plan.sum(1, keepdims=True) * plan.shape[0]
    return plan * plan.shape[0]


@pytest.mark.parametrize(("rows", "columns"), [(40, 8), (5, 20), (1, 3)])
def test_equals_the_plain_reference(rows, columns):
    values = scores(rows, columns)
    plan = sinkhorn(values, epsilon=0.05, iterations=3)
    assert np.abs(plan.double().numpy() - reference(values, 0.05, 3)).max() < 1e-5


def test_marginals():
    plan = sinkhorn(scores(300, 10), epsilon=0.05, iterations=200)
    torch.testing.assert_close(plan.sum(1), torch.ones(300), atol=1e-4, rtol=0)
    torch.testing.assert_close(plan.sum(0), torch.full((10,), 30.0), atol=1e-2, rtol=0)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_scores_stay_finite(scale):
    values = scores(50, 6) * scale
    values[:, 3] = -abs(scale)
    plan = sinkhorn(values, epsilon=0.05, iterations=3)
    assert torch.isfinite(plan).all()
    torch.testing.assert_close(plan.sum(1), torch.ones(50), atol=1e-3, rtol=0)


def test_equal_scores_are_shared_evenly():
    plan = sinkhorn(torch.zeros(12, 4), epsilon=0.05, iterations=3)
    torch.testing.assert_close(plan, torch.full((12, 4), 0.25))


def test_no_rows_give_no_rows():
    assert sinkhorn(torch.zeros(0, 4), epsilon=0.05, iterations=3).shape == (0, 4)

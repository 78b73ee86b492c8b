"""Cross-entropy of views' predictions against assignments: pure functions of scores, assignments and weights."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def one_sided(
    prediction: Float[Tensor, "m b k"], assigned: Float[Tensor, "b k"], share: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Every given view's prediction against one assignment: weighted sum over regions, mean over views (Eq. 3).

    Args:
        prediction: logits of every region in the views that predict.
        assigned: rows sum to 1, without gradient.
        share: weight of each region.
    """
    entropy = -(assigned * prediction.log_softmax(-1)).sum(-1).mean(0)
    return (entropy * share).sum()


def symmetric(
    prediction: Float[Tensor, "m b k"], assigned: Float[Tensor, "m b k"], share: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Every view's prediction against every other view's assignment: mean over the m (m - 1) pairs.

    The cross-entropy is linear in the assignment, so a view's m - 1 targets are taken as their sum.

    Args:
        prediction: logits of every region in every view.
        assigned: of every view; rows sum to 1, without gradient.
        share: weight of each region.
    """
    views = len(prediction)
    others = assigned.sum(0, keepdim=True) - assigned
    entropy = -(others * prediction.log_softmax(-1)).sum((0, -1)) / (views * (views - 1))
    return (entropy * share).sum()

"""The swapped prediction loss (Eq. 3): a pure function of scores, assignments and which regions count."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vice.train.distributed import sum_over_processes, world_size


def swapped_prediction_loss(
    scores: Float[Tensor, "m n r k"],
    assignments: Float[Tensor, "n r k"],
    usable: Bool[Tensor, "n r"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Cross-entropy of views 2 to M against view 1's assignments: mean over regions, then pictures, then views.

    Pictures without a usable region leave the average. With several processes the average is over the pictures of all
    of them, scaled so that the mean of the processes' gradients (as DistributedDataParallel takes it) is that of
    one process with all pictures.

    Args:
        scores: of every view's regions (Eq. 2).
        assignments: rows sum to 1; view 1's, without gradient.
        usable: regions that count.
        temperature: τ.
    """
    log_prediction = (scores[1:] / temperature).log_softmax(-1)
    entropy = -(assignments * log_prediction).sum(-1)
    regions = usable.sum(1)
    per_picture = (entropy * usable).sum(2) / regions.clamp_min(1)
    num_pictures = sum_over_processes((regions > 0).sum().float()).clamp_min(1)
    return per_picture.mean(0).sum() * world_size() / num_pictures


def assign_and_compare(
    embeddings: Float[Tensor, "m n r d"],
    scores: Float[Tensor, "m n r k"],
    usable: Bool[Tensor, "n r"],
    queued_scores: Float[Tensor, "q k"],
    *,
    assign,
    temperature: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, "b k"], Float[Tensor, "b d"]]:
    """Assign view 1's regions together with the queue's, and compare the other views.

    Args:
        embeddings: of all views' regions.
        scores: of all views' regions.
        usable: regions that count (b of them).
        queued_scores: the queue's embeddings scored by the present concepts; no rows while it is not full.
        assign: scores [b + q, k] to assignments of the same shape.
        temperature: τ.

    Returns:
        The loss, the usable regions' assignments, and view 1's usable embeddings for the queue.
    """
    with torch.no_grad():
        first = scores[0][usable]
        assigned = assign(torch.cat([first, queued_scores]))[: len(first)]
        assignments = torch.zeros_like(scores[0])
        assignments[usable] = assigned.to(scores.dtype)
    loss = swapped_prediction_loss(scores, assignments, usable, temperature=temperature)
    return loss, assigned, embeddings[0][usable].detach()

"""The swapped prediction loss (Eq. 3): a pure function of scores, assignments and which regions count."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def swapped_prediction_loss(
    scores: Float[Tensor, "m n r k"],
    assigned: Float[Tensor, "b k"],
    usable: Bool[Tensor, "n r"],
    *,
    temperature: float,
    num_pictures: int | Tensor,
) -> Float[Tensor, ""]:
    """Cross-entropy of views 2 to M against view 1's assignments: mean over regions, then pictures, then views.

    Pictures without a usable region leave the average. Parts of a batch add up to the batch's loss: of each part the
    sum over its pictures is divided by the number of usable pictures of the whole.

    Args:
        scores: of every view's regions (Eq. 2).
        assigned: of the b usable regions in view 1, in the order of pictures; rows sum to 1, without gradient.
        usable: regions that count.
        temperature: τ.
        num_pictures: pictures with a usable region, of the whole batch.
    """
    # only usable regions are compared: with padding and masking they may be half of all
    log_prediction = (scores[1:, usable] / temperature).log_softmax(-1)
    entropy = -(assigned * log_prediction).sum(-1).mean(0)
    regions = usable.sum(1)
    share = (1 / regions.clamp_min(1).to(entropy.dtype))[:, None].expand_as(usable)[usable]
    return (entropy * share).sum() / torch.as_tensor(num_pictures, device=scores.device).clamp_min(1)

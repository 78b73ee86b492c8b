"""Train pictures that a probe's setting is chosen on: contiguous stretches, since frames of a video are alike."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Integer

from vice.evaluate.evaluators.heads import AffineHead
from vice.evaluate.metrics import count_pairs, score

NUM_STRETCHES = 20
"""Contiguous stretches that the pictures are cut into, in the order of the shards; half as many if they are few."""
EVERY, FIRST = 10, 4
"""Of every ten stretches the fifth is held out."""


def held_out(pictures: Integer[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which vectors belong to held-out pictures; none where there are fewer than ten pictures.

    Args:
        pictures: number of the picture of each vector.
    """
    numbers, ranks = np.unique(pictures, return_inverse=True)
    if len(numbers) < EVERY:
        return np.zeros(len(pictures), bool)
    stretches = NUM_STRETCHES if len(numbers) >= NUM_STRETCHES else EVERY
    return ranks * stretches // len(numbers) % EVERY == FIRST


def miou(
    head: AffineHead, vectors: Float32[np.ndarray, "n d"], labels: Integer[np.ndarray, " n"], num_classes: int
) -> float:
    """Mean IoU of a head on vectors."""
    pairs = count_pairs(labels, head.assign(vectors), num_labels=num_classes, num_predictions=num_classes)
    return score(pairs, [str(number) for number in range(num_classes)]).miou

"""The pass over the val pictures: every picture under every condition once through every encoder, all heads on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from vice.evaluate.conditions import under
from vice.evaluate.encoders import Encoder
from vice.evaluate.heads import AffineHead, predict
from vice.evaluate.metrics import count_pairs
from vice.evaluate.names import CONDITIONS
from vice.evaluate.scenes import Scene, in_batches


class View(NamedTuple):
    """One picture under one condition as one encoder sees it, and what each head says of it."""

    scene: Scene
    condition: str
    encoder: str
    picture: UInt8[np.ndarray, "h w 3"]
    """As the encoder met it, under the condition."""
    embedding: Float32[np.ndarray, "d gh gw"]
    predictions: dict[str, Int64[np.ndarray, "h w"]]
    """Head's name to the prediction at every pixel."""


def views(
    scenes: Iterable[Scene],
    encoders: Sequence[Encoder],
    heads: Mapping[str, Mapping[str, AffineHead]],
    *,
    conditions_seed: int,
) -> Iterator[View]:
    """Predict every pixel of every scene under every condition.

    Args:
        scenes: the validation pictures; only a batch of them is in memory.
        encoders: each embeds every picture once a condition.
        heads: encoder's name to head's name to head.
        conditions_seed: of the change of light.
    """
    for batch in in_batches(scenes):
        for condition in CONDITIONS:
            pictures = [under(condition, scene.picture, seed=conditions_seed, number=scene.number) for scene in batch]
            for encoder in encoders:
                for scene, picture, embedding in zip(batch, pictures, encoder.embed(np.stack(pictures)), strict=True):
                    height, width = scene.labels.shape
                    predictions = {
                        name: predict(head, embedding, height=height, width=width)
                        for name, head in heads[encoder.name].items()
                    }
                    yield View(scene, condition, encoder.name, picture, embedding, predictions)


class Counts(NamedTuple):
    """Which head of which encoder under which condition a table of counts belongs to."""

    encoder: str
    condition: str
    head: str


def count(
    views: Iterable[View],
    heads: Mapping[str, Mapping[str, AffineHead]],
    *,
    num_classes: int,
    keep: Callable[[View], None] = lambda view: None,
) -> dict[Counts, Int64[np.ndarray, "classes predictions"]]:
    """Count pixels by (labelled class, prediction) over all views.

    Args:
        views: from `views`.
        heads: as given to `views`: how many values each head predicts.
        num_classes: of the labels.
        keep: called with every view, for whoever draws some of them.
    """
    counts: dict[Counts, np.ndarray] = {}
    for view in views:
        keep(view)
        for name, prediction in view.predictions.items():
            num_predictions = len(heads[view.encoder][name].bias)
            pairs = count_pairs(view.scene.labels, prediction, num_labels=num_classes, num_predictions=num_predictions)
            place = Counts(view.encoder, view.condition, name)
            counts[place] = counts[place] + pairs if place in counts else pairs
    return counts

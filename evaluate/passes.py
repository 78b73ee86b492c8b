"""The two passes that all evaluators share: train pictures to collectors, val pictures to every head's counts.

Every picture goes through every encoder once (per condition, in the second pass), however many evaluators ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from vice.evaluate.conditions import under
from vice.evaluate.encoders.protocol import Encoder, check_finite
from vice.evaluate.evaluators.heads import Head, predict
from vice.evaluate.metrics import count_pairs
from vice.evaluate.scenes import Scene, in_batches


@runtime_checkable
class Collector(Protocol):
    """Keeps a bounded part of what the encoders make of the train pictures."""

    def add(self, scene: Scene, encoder: Encoder, embedding: Float32[np.ndarray, "d gh gw"]) -> None:
        """Take what is wanted of one encoder's map of a picture."""
        ...


def collect(scenes: Iterable[Scene], encoders: Sequence[Encoder], collectors: Sequence[Collector]) -> None:
    """Embed every scene once per encoder and show its map to every collector; one batch of pictures is in memory.

    Raises:
        WorkError: an encoder gives values that are not finite; names the picture.
    """
    for batch in in_batches(scenes):
        pictures = np.stack([scene.picture for scene in batch])
        for encoder in encoders:
            for scene, embedding in zip(batch, encoder.embed(pictures), strict=True):
                check_finite(embedding, name=encoder.name, where=scene.key)
                for collector in collectors:
                    collector.add(scene, encoder, embedding)


class View(NamedTuple):
    """One picture under one condition as one encoder sees it, and what each head says of it."""

    scene: Scene
    condition: str
    encoder: str
    stride: int
    """Picture pixels per cell of the embedding."""
    picture: UInt8[np.ndarray, "h w 3"]
    """As the encoder met it, under the condition."""
    embedding: Float32[np.ndarray, "d gh gw"]
    predictions: dict[str, Int64[np.ndarray, "lh lw"]]
    """Head's name to the prediction at every pixel of the label map."""


def views(
    scenes: Iterable[Scene],
    encoders: Sequence[Encoder],
    heads: Mapping[str, Mapping[str, Head]],
    *,
    conditions: Sequence[str],
    seed: int,
) -> Iterator[View]:
    """Predict every pixel of every scene under every condition.

    Args:
        scenes: the validation pictures; only a batch of them is in memory.
        encoders: each embeds every picture once a condition.
        heads: encoder's name to head's name to head.
        conditions: of `conditions.CHANGES`.
        seed: of the changes.

    Raises:
        WorkError: an encoder gives values that are not finite; names the picture.
    """
    for batch in in_batches(scenes):
        for condition in conditions:
            pictures = [under(condition, scene.picture, seed=seed, number=scene.number) for scene in batch]
            for encoder in encoders:
                for scene, picture, embedding in zip(batch, pictures, encoder.embed(np.stack(pictures)), strict=True):
                    check_finite(embedding, name=encoder.name, where=scene.key)
                    size, picture_size = scene.labels.shape, picture.shape[:2]
                    predictions = {
                        name: predict(head, embedding, stride=encoder.stride, picture_size=picture_size, size=size)
                        for name, head in heads[encoder.name].items()
                    }
                    yield View(scene, condition, encoder.name, encoder.stride, picture, embedding, predictions)


class Counts(NamedTuple):
    """Which head of which encoder under which condition a table of counts belongs to."""

    encoder: str
    condition: str
    head: str


def count(
    views: Iterable[View],
    heads: Mapping[str, Mapping[str, Head]],
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
            num_predictions = heads[view.encoder][name].num_predictions
            pairs = count_pairs(view.scene.labels, prediction, num_labels=num_classes, num_predictions=num_predictions)
            place = Counts(view.encoder, view.condition, name)
            counts[place] = counts[place] + pairs if place in counts else pairs
    return counts

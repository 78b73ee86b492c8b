"""What an evaluator is: it collects from the train pass, fits heads, and turns the val pass's counts into results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from vice.data_specs.entries import DataRef, Evaluation, Score
from vice.evaluate import conditions
from vice.evaluate.evaluators.heads import Head
from vice.evaluate.gallery import Gallery
from vice.evaluate.metrics import over_seeds, score
from vice.evaluate.names import entry_name
from vice.evaluate.passes import Collector, Counts
from vice.evaluate.pictures import class_colours
from vice.evaluate.scenes import data_ref
from vice.pipeline.shards import Shards

Heads = Mapping[str, Mapping[str, Head]]
"""Encoder's name to head's name to head; a head's name begins with its evaluator's and is used by no other."""


class Setup(NamedTuple):
    """What all evaluators of one run share: the data, the conditions, and how pictures are embedded."""

    train: Shards
    val: Shards
    run_dir: Path
    """Val pictures are drawn into its folder of pictures."""
    conditions: tuple[str, ...] = conditions.DEFAULT
    conditions_seed: int = 0
    short_side: int | None = None
    """Pictures are brought to this size before they are embedded; labels stay as they are."""
    embedding: Mapping[str, Any] = {}
    """How an encoder embeds a picture (tiles, averaging), for the record."""

    shared: float = 0.0
    """Share of the val pictures that are also in train."""

    @property
    def classes(self) -> list[str]:
        """Of the labels."""
        return self.train.classes

    def entry(self, name: str) -> str:
        """Name of an entry of the record."""
        averaged = bool(self.embedding.get("averaged"))
        return entry_name(name, class_set=self.val.class_set, short_side=self.short_side, averaged=averaged)

    def gallery(self, name: str) -> Gallery:
        """Draws val pictures for an entry of the record."""
        classes, pictures = len(self.classes), len(self.val)
        return Gallery(self.run_dir, self.entry(name), num_classes=classes, num_pictures=pictures)

    @property
    def settings(self) -> dict[str, Any]:
        """For the record."""
        size = "as stored" if self.short_side is None else f"shorter side {self.short_side} pixels, labels as stored"
        return {
            "pictures": {"size": size, **self.embedding},
            "val_pictures_in_train": self.shared,
            "conditions": conditions.settings_of(self.conditions, self.conditions_seed),
        }


@runtime_checkable
class Evaluator(Protocol):
    """One way of scoring embeddings."""

    collectors: Sequence[Collector]
    """What it wants of the train pass."""

    def fit(self) -> Heads:
        """Fit its heads on what its collectors kept."""
        ...

    def galleries(self) -> Sequence[Gallery]:
        """Who draws val pictures for it; asked after `fit`."""
        ...

    def entries(self, counts: Mapping[Counts, np.ndarray], seconds: float) -> dict[str, Evaluation]:
        """Results by name, from the counts of the val pass (of all evaluators' heads) and the time of both passes."""
        ...


def score_heads(
    counts: Mapping[Counts, np.ndarray], heads_of: Mapping[str, Mapping[int, str]], setup: Setup
) -> dict[str, dict[str, Score]]:
    """Scores by encoder and condition of heads that predict classes.

    Args:
        counts: of the val pass.
        heads_of: encoder's name to seed to the head's name.
        setup: classes and conditions.
    """
    return {
        encoder: {
            condition: over_seeds(
                {seed: score(counts[Counts(encoder, condition, head)], setup.classes) for seed, head in by_seed.items()}
            )
            for condition in setup.conditions
        }
        for encoder, by_seed in heads_of.items()
    }


def evaluation(
    kind: str,
    setup: Setup,
    settings: Mapping[str, Any],
    encoders: dict[str, dict[str, Score]],
    *,
    seconds: float,
    gallery: Gallery | None = None,
    refs: tuple[DataRef, DataRef] | None = None,
) -> Evaluation:
    """An entry of the record, with what the setup adds to its settings."""
    train, val = refs or (data_ref(setup.train), data_ref(setup.val))
    return Evaluation(
        kind=kind,
        settings={**settings, **setup.settings},
        train=train,
        val=val,
        encoders=encoders,
        seconds=seconds,
        tiles=[] if gallery is None else gallery.tiles,
        colours=class_colours(setup.classes),
    )

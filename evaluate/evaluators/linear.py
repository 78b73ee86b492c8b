"""`linear`: how well a linear probe on the frozen embedding tells the classes, by one of two recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from vice.data_specs.entries import Evaluation
from vice.data_specs.errors import InputError
from vice.data_specs.regions import IGNORE
from vice.evaluate.evaluators.protocol import Heads, Setup, evaluation, score_heads
from vice.evaluate.evaluators.sgd import fit_by_sgd
from vice.evaluate.evaluators.softmax_regression import LinearFit, fit_quickly
from vice.evaluate.gallery import Gallery, add_embeddings
from vice.evaluate.options import Drawing, ProbeSettings, SgdSettings
from vice.evaluate.passes import Counts
from vice.evaluate.pictures import palette
from vice.evaluate.vectors import PixelCollector, Vectors

NAMES = {ProbeSettings: "linear", SgdSettings: "linear-sgd"}
"""Entry of the record by recipe."""


class LinearEvaluator:
    """A probe per encoder and seed, fitted on drawn labelled pixels of clean train pictures.

    Args:
        setup: of the run.
        drawing: how many pixels are drawn.
        recipe: `ProbeSettings`, the quick one by L-BFGS; or `SgdSettings`, the paper's.
        seeds: each draws other pixels (and other batches, for SGD).
    """

    def __init__(
        self,
        setup: Setup,
        *,
        drawing: Drawing,
        recipe: ProbeSettings | SgdSettings,
        seeds: Sequence[int] = (0,),
    ):
        self._setup, self._recipe, self._seeds = setup, recipe, tuple(seeds)
        self._name = NAMES[type(recipe)]
        self._quota = drawing.quota(len(setup.train))
        self._of_seed = {seed: PixelCollector(quota=self._quota, seed=seed, labelled_only=True) for seed in self._seeds}
        self.collectors = list(self._of_seed.values())
        self._fits: dict[str, dict[str, LinearFit]] = {}
        self._num_vectors = 0

    def fit(self) -> Heads:
        """Fit the probes of every seed; see `Evaluator`.

        Raises:
            InputError: no train picture has a labelled pixel.
        """
        self._gallery = self._setup.gallery(self._name)
        for seed, collector in self._of_seed.items():
            vectors = collector.vectors()
            self._num_vectors = len(vectors.labels)
            fits = fit_probes(vectors, None, num_classes=len(self._setup.classes), recipe=self._recipe, seed=seed)
            for encoder, by_variant in fits.items():
                named = {self._head(variant, seed): fit for variant, fit in by_variant.items()}
                self._fits.setdefault(encoder, {}).update(named)
            if seed == self._seeds[0]:
                self._draw(vectors)
        return {encoder: {name: fit.head for name, fit in fits.items()} for encoder, fits in self._fits.items()}

    def galleries(self) -> list[Gallery]:
        """Draws predictions, and embeddings by their main directions; see `Evaluator`."""
        return [self._gallery]

    def entries(self, counts: Mapping[Counts, np.ndarray], seconds: float) -> dict[str, Evaluation]:
        """`linear` (or `linear-sgd`, and one more for each learning rate); see `Evaluator`."""
        return {
            self._setup.entry(f"{self._name} {variant}".strip()): evaluation(
                "linear",
                self._setup,
                self._settings(variant),
                score_heads(counts, self._heads_of(variant), self._setup),
                seconds=seconds,
                gallery=self._gallery if variant == "" else None,
            )
            for variant in self._variants
        }

    @property
    def _variants(self) -> list[str]:
        return list(dict.fromkeys(self._variant_of(head) for head in next(iter(self._fits.values()))))

    def _head(self, variant: str, seed: int) -> str:
        return f"{self._name}|{variant}|{seed}"

    def _variant_of(self, head: str) -> str:
        return head.split("|")[1]

    def _heads_of(self, variant: str) -> dict[str, dict[int, str]]:
        return {encoder: {seed: self._head(variant, seed) for seed in self._seeds} for encoder in self._fits}

    def _draw(self, vectors: Vectors) -> None:
        colours, head = palette(len(self._setup.classes)), self._head("", self._seeds[0])
        self._gallery.painters["prediction"] = lambda view: colours[view.predictions[head]]
        add_embeddings(self._gallery, vectors)

    def _settings(self, variant: str) -> dict[str, Any]:
        fits = {
            encoder: {f"seed {seed}": by_name[self._head(variant, seed)].told for seed in self._seeds}
            for encoder, by_name in self._fits.items()
        }
        vectors = {
            "pixels_per_picture": self._quota.each,
            **self._quota.settings,
            "num_vectors": self._num_vectors,
            "seeds": self._seeds,
        }
        return settings_of(self._recipe, vectors, fits)


def fit_probes(
    vectors: Vectors,
    which: Bool[np.ndarray, " n"] | None,
    *,
    num_classes: int,
    recipe: ProbeSettings | SgdSettings,
    seed: int,
) -> dict[str, dict[str, LinearFit]]:
    """Probes by encoder and variant (the empty one first), fitted on some of the vectors or on all.

    Raises:
        InputError: not one pixel is labelled.
    """
    which = slice(None) if which is None else which
    labels, pictures = vectors.labels[which], vectors.scenes[which]
    if len(labels) == 0:
        raise InputError("no pixel of the train pictures is labelled", hint=f"every label is the ignore value {IGNORE}")
    fits: dict[str, dict[str, LinearFit]] = {}
    for encoder, embeddings in vectors.embeddings.items():
        if isinstance(recipe, SgdSettings):
            fits[encoder] = fit_by_sgd(
                embeddings[which], labels, pictures, num_classes=num_classes, settings=recipe, seed=seed
            )
        else:
            fits[encoder] = {
                "": fit_quickly(embeddings[which], labels, pictures, num_classes=num_classes, settings=recipe)
            }
    return fits


def settings_of(
    recipe: ProbeSettings | SgdSettings, vectors: Mapping[str, Any], fits: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that decided the numbers beside the setup, and how each fit ended, for the record."""
    optimiser = (
        "full-batch L-BFGS from zero, vectors standardised"
        if isinstance(recipe, ProbeSettings)
        else "SGD from zero, vectors as they are; of several learning rates the one with the highest mIoU on a tenth "
        "of the train pictures, which no rate was fitted on"
    )
    return {
        "vectors": {"drawn_from": "labelled pixels of clean train pictures", **vectors},
        "probe": {
            "form": "1x1 convolution on the frozen embedding, softmax cross-entropy",
            "optimiser": optimiser,
            **recipe._asdict(),
        },
        "fits": dict(fits),
        "resolution": "bilinearly upsampled logits at every labelled pixel",
    }

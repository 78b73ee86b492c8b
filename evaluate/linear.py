"""`linear`: how well a linear probe on the frozen embedding tells the classes, per encoder and condition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from vice.data_specs.errors import InputError
from vice.data_specs.regions import IGNORE
from vice.data_specs.results import Evaluation, Score
from vice.evaluate import conditions
from vice.evaluate.encoders import Encoder
from vice.evaluate.features import Vectors, collect
from vice.evaluate.gallery import Gallery
from vice.evaluate.metrics import score
from vice.evaluate.names import in_classes
from vice.evaluate.options import LinearOptions
from vice.evaluate.pictures import class_colours, palette, principal_colours
from vice.evaluate.predictions import View, count, views
from vice.evaluate.scenes import Scene, data_ref, scenes
from vice.evaluate.softmax_regression import LinearFit, fit_linear
from vice.pipeline.shards import Shards

PROBE = "probe"
"""Name of an encoder's one head."""


def evaluate_linear(
    encoders: Sequence[Encoder], train: Shards, val: Shards, *, options: LinearOptions, run_dir: Path
) -> Evaluation:
    """Fit a probe per encoder on clean train pictures and test it on every val picture under every condition.

    Args:
        encoders: each embeds a train picture once and a val picture once per condition.
        train: what the probe is fitted on.
        val: what it is tested on; same classes.
        options: everything else that decides the numbers.
        run_dir: some val pictures are drawn into its folder of pictures.

    Raises:
        InputError: no train picture has a labelled pixel.
        WorkError: a sample cannot be read.
    """
    started = time.perf_counter()
    classes = train.classes
    num_pixels = options.drawing.pixels_of_each(len(train))
    vectors = collect_labelled(scenes([train], "train pictures"), encoders, num_pixels=num_pixels, options=options)
    fits = fit_probes(vectors, np.full(len(vectors.labels), True), num_classes=len(classes), options=options)
    name = in_classes("linear", val.class_set)
    gallery = _gallery(run_dir, name, vectors, num_classes=len(classes), num_pictures=len(val))
    scores = test_probes(
        scenes([val], "val pictures"), encoders, fits, classes=classes, options=options, keep=gallery.add
    )
    return Evaluation(
        kind="linear",
        settings=settings_of(options, fits, num_pixels=num_pixels, num_vectors=len(vectors.labels)),
        train=data_ref(train),
        val=data_ref(val),
        encoders=scores,
        seconds=time.perf_counter() - started,
        tiles=gallery.tiles,
        colours=class_colours(classes),
    )


def collect_labelled(
    pictures: Iterable[Scene], encoders: Sequence[Encoder], *, num_pixels: int, options: LinearOptions
) -> Vectors:
    """Vectors at drawn labelled pixels.

    Raises:
        InputError: not one pixel is labelled.
    """
    vectors = collect(pictures, encoders, num_pixels=num_pixels, seed=options.drawing.seed, labelled_only=True)
    if len(vectors.labels) == 0:
        raise InputError("no pixel of the train pictures is labelled", hint=f"every label is the ignore value {IGNORE}")
    return vectors


def fit_probes(
    vectors: Vectors, which: Bool[np.ndarray, " n"], *, num_classes: int, options: LinearOptions
) -> dict[str, LinearFit]:
    """A probe per encoder, fitted on some of the vectors (the same for all encoders)."""
    return {
        name: fit_linear(embeddings[which], vectors.labels[which], num_classes=num_classes, settings=options.probe)
        for name, embeddings in vectors.embeddings.items()
    }


def test_probes(
    pictures: Iterable[Scene],
    encoders: Sequence[Encoder],
    fits: Mapping[str, LinearFit],
    *,
    classes: Sequence[str],
    options: LinearOptions,
    keep: Callable[[View], None] = lambda view: None,
) -> dict[str, dict[str, Score]]:
    """Scores by encoder and condition of fitted probes on every labelled pixel of some pictures."""
    heads = {name: {PROBE: fit.head} for name, fit in fits.items()}
    seen = views(pictures, encoders, heads, conditions_seed=options.conditions_seed)
    counts = count(seen, heads, num_classes=len(classes), keep=keep)
    scores: dict[str, dict[str, Score]] = {encoder.name: {} for encoder in encoders}
    for place, confusion in counts.items():
        scores[place.encoder][place.condition] = score(confusion, classes)
    return scores


def _gallery(run_dir: Path, name: str, vectors: Vectors, *, num_classes: int, num_pictures: int) -> Gallery:
    """Draws predictions in the classes' colours, and embeddings by an encoder's three main directions."""
    colours = palette(num_classes)
    bases = {name: principal_colours(embeddings) for name, embeddings in vectors.embeddings.items()}
    painters = {
        "prediction": lambda view: colours[view.predictions[PROBE]],
        "embedding": lambda view: bases[view.encoder].paint(view.embedding, *view.scene.labels.shape),
    }
    return Gallery(run_dir, name, painters, num_classes=num_classes, num_pictures=num_pictures)


def settings_of(
    options: LinearOptions, fits: Mapping[str, LinearFit], *, num_pixels: int, num_vectors: int
) -> dict[str, Any]:
    """Everything that decided the numbers, and how each fit ended, for the record."""
    return {
        "vectors": {
            "drawn_from": "labelled pixels of clean train pictures",
            "seed": options.drawing.seed,
            "pixels_per_picture": num_pixels,
            "num_vectors": num_vectors,
        },
        "probe": {
            "form": "1x1 convolution on the frozen embedding, softmax cross-entropy, vectors standardised",
            "optimiser": "full-batch L-BFGS from zero",
            **options.probe._asdict(),
        },
        "fits": {
            name: {"loss": fit.loss, "iterations": fit.iterations, "converged": fit.converged}
            for name, fit in fits.items()
        },
        "resolution": "bilinearly upsampled logits at every labelled pixel",
        "changed_light": conditions.settings_of(options.conditions_seed),
    }

"""`cluster`: how well k-means clusters of the embedding fall together with the classes, per encoder and condition.

Clusters are found without labels, on clean train pictures. Which class a cluster stands for is then fitted from labels,
by two rules and on two splits; each pair is a result of its own, since published numbers use all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from jaxtyping import Int64

from vice.data_specs.results import Evaluation, Score
from vice.evaluate import conditions
from vice.evaluate.encoders import Encoder
from vice.evaluate.features import Vectors, collect
from vice.evaluate.gallery import Gallery
from vice.evaluate.kmeans import Clusters, fit_clusters, too_few_vectors
from vice.evaluate.matching import RULES, as_classes, greedy
from vice.evaluate.metrics import count_pairs, score
from vice.evaluate.names import CLEAN, CONDITIONS, in_classes
from vice.evaluate.options import ClusterOptions, KMeansSettings
from vice.evaluate.pictures import class_colours, palette
from vice.evaluate.predictions import Counts, View, count, views
from vice.evaluate.scenes import data_ref, scenes
from vice.pipeline.shards import Shards

FITTED_ON = {
    "train": "the drawn vectors of clean train pictures that lie on labelled pixels",
    "val": "all labelled pixels of clean val pictures",
}
"""What classes are fitted to clusters on, by the name that results carry."""


class Found(NamedTuple):
    """Clusters of one encoder, with what the train labels say of them."""

    clusters: Clusters
    train_counts: Int64[np.ndarray, "c k"]
    """Labelled train vectors by class and cluster."""


def evaluate_cluster(
    encoders: Sequence[Encoder], train: Shards, val: Shards, *, options: ClusterOptions, run_dir: Path
) -> dict[str, Evaluation]:
    """Cluster train embeddings with every K and test the clusters on every val picture under every condition.

    Args:
        encoders: each embeds a train picture once and a val picture once per condition.
        train: what clusters are found on, and classes fitted on for `train-fitted`.
        val: what they are tested on, and classes fitted on (clean pictures) for `val-fitted`; same classes.
        options: everything else that decides the numbers.
        run_dir: some val pictures are drawn into its folder of pictures.

    Returns:
        `cluster-K RULE SPLIT-fitted` to evaluation; all share the time of the whole.

    Raises:
        InputError: a K is larger than the number of vectors.
        WorkError: a sample cannot be read.
    """
    started = time.perf_counter()
    classes = train.classes
    num_pixels = options.drawing.pixels_of_each(len(train))
    _check_enough_vectors(train, num_pixels, max(options.num_clusters))
    pictures = scenes([train], "train pictures")
    vectors = collect(pictures, encoders, num_pixels=num_pixels, seed=options.drawing.seed, labelled_only=False)
    found = {k: find_clusters(vectors, k, classes=classes, settings=options.kmeans) for k in options.num_clusters}
    names = {k: in_classes(f"cluster-{k}", val.class_set) for k in found}
    galleries = {k: _gallery(run_dir, names[k], k, found[k], num_pictures=len(val)) for k in found}
    counts = _count_val(val, encoders, found, galleries.values(), options)
    seconds = time.perf_counter() - started
    return {
        f"{names[k]} {rule} {split}-fitted": Evaluation(
            kind="cluster",
            settings=_settings(options, found[k], vectors, num_pixels, rule, split),
            train=data_ref(train),
            val=data_ref(val),
            encoders=_scores(found[k], k, counts, classes, rule, split),
            seconds=seconds,
            tiles=galleries[k].tiles if (rule, split) == ("greedy", "train") else [],
            colours=class_colours(classes),
        )
        for k, rule, split in product(found, RULES, FITTED_ON)
    }


def _count_val(
    val: Shards,
    encoders: Sequence[Encoder],
    found: Mapping[int, Mapping[str, Found]],
    galleries: Iterable[Gallery],
    options: ClusterOptions,
) -> dict[Counts, np.ndarray]:
    """Count val pixels by class and cluster for every K in one pass, drawing some pictures on the way."""

    def draw(view: View) -> None:
        for gallery in galleries:
            gallery.add(view)

    heads = {e.name: {str(k): by_encoder[e.name].clusters.head for k, by_encoder in found.items()} for e in encoders}
    seen = views(scenes([val], "val pictures"), encoders, heads, conditions_seed=options.conditions_seed)
    return count(seen, heads, num_classes=len(val.classes), keep=draw)


def _check_enough_vectors(train: Shards, num_pixels: int, num_clusters: int) -> None:
    """Refuse before anything is computed what `fit_clusters` would refuse after embedding all train pictures."""
    num_vectors = int(np.minimum(train.sizes.prod(axis=1), num_pixels).sum())
    if num_clusters > num_vectors:
        raise too_few_vectors(num_clusters, num_vectors)


def _scores(
    found: Mapping[str, Found],
    num_clusters: int,
    counts: Mapping[Counts, np.ndarray],
    classes: Sequence[str],
    rule: str,
    split: str,
) -> dict[str, dict[str, Score]]:
    """Scores by encoder and condition of one K under one mapping."""
    scores = {}
    for name, of_encoder in found.items():
        by_condition = {condition: counts[Counts(name, condition, str(num_clusters))] for condition in CONDITIONS}
        confusion = confusions(of_encoder, by_condition, rule=rule, split=split)
        scores[name] = {condition: score(matrix, classes) for condition, matrix in confusion.items()}
    return scores


def find_clusters(
    vectors: Vectors, num_clusters: int, *, classes: Sequence[str], settings: KMeansSettings
) -> dict[str, Found]:
    """Cluster each encoder's vectors, and count the labelled ones by class and cluster.

    Raises:
        InputError: there are fewer vectors than clusters.
    """
    found = {}
    for name, embeddings in vectors.embeddings.items():
        clusters = fit_clusters(embeddings, num_clusters, settings=settings)
        assigned = clusters.head.assign(embeddings)
        pairs = count_pairs(vectors.labels, assigned, num_labels=len(classes), num_predictions=num_clusters)
        found[name] = Found(clusters, pairs)
    return found


def confusions(
    found: Found, counts: Mapping[str, Int64[np.ndarray, "c k"]], *, rule: str, split: str
) -> dict[str, Int64[np.ndarray, "c c"]]:
    """Confusion matrix by condition, once clusters stand for classes.

    Args:
        found: the clusters, with the counts of the train vectors.
        counts: condition to val pixels by class and cluster; `val-fitted` fits on the clean ones.
        rule: of `RULES`.
        split: of `FITTED_ON`.
    """
    classes = RULES[rule](found.train_counts if split == "train" else counts[CLEAN])
    return {condition: as_classes(of_condition, classes) for condition, of_condition in counts.items()}


def _gallery(run_dir: Path, name: str, num_clusters: int, found: Mapping[str, Found], *, num_pictures: int) -> Gallery:
    """Draws clusters in colours of their own, and as the classes that the greedy rule reads from the train labels."""
    colours = palette(num_clusters)
    classes = {name: greedy(of_encoder.train_counts) for name, of_encoder in found.items()}
    num_classes = len(next(iter(found.values())).train_counts)
    class_colours = palette(num_classes)
    head = str(num_clusters)
    painters = {
        "clusters": lambda view: colours[view.predictions[head]],
        "clusters as classes": lambda view: class_colours[classes[view.encoder][view.predictions[head]]],
    }
    return Gallery(run_dir, name, painters, num_classes=num_classes, num_pictures=num_pictures)


def _settings(
    options: ClusterOptions, found: Mapping[str, Found], vectors: Vectors, num_pixels: int, rule: str, split: str
) -> dict[str, Any]:
    """Everything that decided the numbers of one K under one mapping, and how each fit ended, for the record."""
    return {
        "vectors": {
            "drawn_from": "all pixels of clean train pictures, labelled or not",
            "seed": options.drawing.seed,
            "pixels_per_picture": num_pixels,
            "num_vectors": len(vectors.labels),
        },
        "kmeans": {
            "library": f"faiss {faiss.__version__}, CPU, one thread",
            "num_clusters": len(next(iter(found.values())).clusters.head.bias),
            **options.kmeans._asdict(),
        },
        "fits": {
            name: {"num_points": of_encoder.clusters.num_points, "objective": of_encoder.clusters.objective}
            for name, of_encoder in found.items()
        },
        "matching": {"rule": rule, "fitted_on": FITTED_ON[split]},
        "resolution": "nearest centroid of the bilinearly upsampled embedding at every labelled pixel",
        "changed_light": conditions.settings_of(options.conditions_seed),
    }

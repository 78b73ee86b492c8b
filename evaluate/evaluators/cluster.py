"""`cluster`: how well k-means clusters of the embedding fall together with the classes, per encoder and condition.

Clusters are found without labels, on clean train pictures. Which class a cluster stands for is then fitted from labels,
by two rules and on two splits; each pair is a result of its own, since published numbers use all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from vice.data_specs.entries import Evaluation, Score
from vice.evaluate.evaluators.kmeans import Clusters, fit_clusters, library, too_few_vectors
from vice.evaluate.evaluators.matching import RULES, as_classes, greedy
from vice.evaluate.evaluators.protocol import Heads, Setup, evaluation
from vice.evaluate.gallery import Gallery
from vice.evaluate.metrics import count_pairs, over_seeds, score
from vice.evaluate.names import CLEAN
from vice.evaluate.options import Drawing, KMeansSettings
from vice.evaluate.passes import Counts
from vice.evaluate.pictures import palette
from vice.evaluate.vectors import PixelCollector, Vectors

FITTED_ON = {
    "train": "the drawn vectors of clean train pictures that lie on labelled pixels",
    "val": "all labelled pixels of clean val pictures",
}
"""What classes are fitted to clusters on, by the name that results carry."""


class Found(NamedTuple):
    """Clusters of one encoder and seed, with what the train labels say of them."""

    clusters: Clusters
    train_counts: Int64[np.ndarray, "c k"]
    """Labelled train vectors by class and cluster."""


class Place(NamedTuple):
    """Which clusters."""

    encoder: str
    num_clusters: int
    seed: int

    @property
    def head(self) -> str:
        """Name of their head."""
        return f"cluster-{self.num_clusters}|{self.seed}"


class ClusterEvaluator:
    """Clusters the train embeddings with every K and seed, and matches the clusters with the classes.

    Args:
        setup: of the run.
        num_clusters: every K; the number of classes if empty.
        drawing: how many pixels are drawn.
        kmeans: everything else that decides the centroids.
        seeds: each draws other pixels and begins from other centroids.

    Raises:
        InputError: a K is larger than the number of vectors.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        num_clusters: Sequence[int],
        drawing: Drawing,
        kmeans: KMeansSettings,
        seeds: Sequence[int] = (0,),
    ):
        self._setup, self._kmeans = setup, kmeans
        self._ks, self._seeds = tuple(dict.fromkeys(num_clusters or [len(setup.classes)])), tuple(seeds)
        self._quota = drawing.quota(len(setup.train))
        self._check_enough_vectors()
        self._of_seed = {
            seed: PixelCollector(quota=self._quota, seed=seed, labelled_only=False) for seed in self._seeds
        }
        self.collectors = list(self._of_seed.values())
        self._found: dict[Place, Found] = {}
        self._num_vectors = 0

    def _check_enough_vectors(self) -> None:
        """Refuse before anything is computed what `fit_clusters` would refuse after embedding all train pictures."""
        quotas = [self._quota.of(number) for number in range(len(self._setup.train))]
        num_vectors = int(np.minimum(self._setup.train.sizes.prod(axis=1), quotas).sum())
        if max(self._ks) > num_vectors:
            raise too_few_vectors(max(self._ks), num_vectors)

    def fit(self) -> Heads:
        """Find the clusters of every seed and K; see `Evaluator`."""
        heads: dict[str, dict[str, Any]] = {}
        for seed, collector in self._of_seed.items():
            vectors = collector.vectors()
            self._num_vectors = len(vectors.labels)
            for encoder, k in product(vectors.embeddings, self._ks):
                place = Place(encoder, k, seed)
                self._found[place] = self._find(vectors, place)
                heads.setdefault(encoder, {})[place.head] = self._found[place].clusters.head
        self._galleries = {k: self._gallery(k) for k in self._ks}
        return heads

    def _find(self, vectors: Vectors, place: Place) -> Found:
        embeddings, k = vectors.embeddings[place.encoder], place.num_clusters
        clusters = fit_clusters(embeddings, k, settings=self._kmeans, seed=place.seed)
        num_classes = len(self._setup.classes)
        assigned = clusters.head.assign(embeddings)
        return Found(clusters, count_pairs(vectors.labels, assigned, num_labels=num_classes, num_predictions=k))

    def galleries(self) -> list[Gallery]:
        """One for every K; see `Evaluator`."""
        return list(self._galleries.values())

    def _gallery(self, k: int) -> Gallery:
        """Draws clusters in colours of their own, and as the classes that the greedy rule reads from train labels."""
        gallery = self._setup.gallery(f"cluster-{k}")
        colours, class_colours = palette(k), palette(len(self._setup.classes))
        seed = self._seeds[0]
        classes = {
            place.encoder: greedy(found.train_counts)
            for place, found in self._found.items()
            if (place.num_clusters, place.seed) == (k, seed)
        }
        head = Place("", k, seed).head
        gallery.painters["clusters"] = lambda view: colours[view.predictions[head]]
        gallery.painters["clusters as classes"] = lambda view: class_colours[
            classes[view.encoder][view.predictions[head]]
        ]
        return gallery

    def entries(self, counts: Mapping[Counts, np.ndarray], seconds: float) -> dict[str, Evaluation]:
        """`cluster-K RULE SPLIT-fitted` for every K, rule and split; see `Evaluator`."""
        return {
            self._setup.entry(f"cluster-{k} {rule} {split}-fitted"): evaluation(
                "cluster",
                self._setup,
                self._settings(k, rule, split),
                self._scores(counts, k, rule, split),
                seconds=seconds,
                gallery=self._galleries[k] if (rule, split) == ("greedy", "train") else None,
            )
            for k, rule, split in product(self._ks, RULES, FITTED_ON)
        }

    def _scores(
        self, counts: Mapping[Counts, np.ndarray], k: int, rule: str, split: str
    ) -> dict[str, dict[str, Score]]:
        """Scores by encoder and condition of one K under one mapping."""
        conditions, classes = self._setup.conditions, self._setup.classes
        scores = {}
        for encoder in dict.fromkeys(place.encoder for place in self._found):
            by_seed = {}
            for seed in self._seeds:
                place = Place(encoder, k, seed)
                of_head = {condition: counts[Counts(encoder, condition, place.head)] for condition in conditions}
                by_seed[seed] = confusions(self._found[place].train_counts, of_head, rule=rule, split=split)
            scores[encoder] = {
                condition: over_seeds({seed: score(of[condition], classes) for seed, of in by_seed.items()})
                for condition in conditions
            }
        return scores

    def _settings(self, k: int, rule: str, split: str) -> dict[str, Any]:
        """Everything that decided the numbers of one K under one mapping, and how each fit ended, for the record."""
        fits: dict[str, dict[str, Any]] = {}
        origin = "zero" if self._kmeans.spherical else "mean of the vectors"
        for place, found in self._found.items():
            if place.num_clusters == k:
                told = {"num_points": found.clusters.num_points, "objective": found.clusters.objective}
                fits.setdefault(place.encoder, {})[f"seed {place.seed}"] = told
        return {
            "vectors": {
                "drawn_from": "all pixels of clean train pictures, labelled or not",
                "pixels_per_picture": self._quota.each,
                **self._quota.settings,
                "num_vectors": self._num_vectors,
                "seeds": self._seeds,
            },
            "kmeans": {"library": library(), "num_clusters": k, "origin": origin, **self._kmeans._asdict()},
            "fits": fits,
            "matching": {"rule": rule, "over": "all classes", "fitted_on": FITTED_ON[split]},
            "resolution": "nearest centroid of the bilinearly upsampled embedding at every labelled pixel",
        }


def confusions(
    train_counts: Int64[np.ndarray, "c k"],
    val_counts: Mapping[str, Int64[np.ndarray, "c k"]],
    *,
    rule: str,
    split: str,
) -> dict[str, Int64[np.ndarray, "c c"]]:
    """Confusion matrix by condition, once clusters stand for classes.

    Args:
        train_counts: labelled train vectors by class and cluster.
        val_counts: condition to val pixels by class and cluster; `val-fitted` fits on the clean ones.
        rule: of `RULES`.
        split: of `FITTED_ON`.
    """
    classes = RULES[rule](train_counts if split == "train" else val_counts[CLEAN])
    return {condition: as_classes(of_condition, classes) for condition, of_condition in val_counts.items()}

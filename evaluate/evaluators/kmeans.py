"""Clusters of embeddings by FAISS k-means, repeatable: every setting is stated, and one machine gives equal bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import faiss
import numpy as np
from jaxtyping import Float32

from vice.data_specs.errors import InputError
from vice.evaluate.evaluators.heads import AffineHead, nearest_centroid
from vice.evaluate.options import KMeansSettings

DEFAULTS = KMeansSettings()


class Clusters(NamedTuple):
    """Centroids, and a head that assigns vectors to them."""

    centroids: Float32[np.ndarray, "k d"]
    """Of unit length if spherical."""
    head: AffineHead
    objective: float
    """Mean squared distance of the clustered points to their centroid (mean cosine if spherical)."""
    num_points: int
    """Points that were clustered, after subsampling."""


def fit_clusters(
    vectors: Float32[np.ndarray, "n d"], num_clusters: int, *, settings: KMeansSettings = DEFAULTS, seed: int = 0
) -> Clusters:
    """Cluster vectors by FAISS k-means: on the GPUs where FAISS sees some, else on one thread of the CPU.

    Args:
        vectors: embeddings at drawn pixels.
        num_clusters: K.
        settings: everything else that decides the result,
        seed: but this: of FAISS's draw of the points and of the first centroids.

    Raises:
        InputError: there are fewer vectors than clusters.
    """
    if num_clusters > len(vectors):
        raise too_few_vectors(num_clusters, len(vectors))
    if settings.spherical:
        points, mean = _unit_length(vectors), np.zeros(vectors.shape[1], np.float32)
    else:
        # FAISS takes |x|² - 2 c·x + |c|² in float32, which a large common offset would leave without digits
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        points = np.ascontiguousarray(vectors - mean)
    kmeans = faiss.Kmeans(
        points.shape[1],
        num_clusters,
        niter=settings.iterations,
        nredo=settings.restarts,
        seed=seed,
        min_points_per_centroid=1,  # FAISS's 39 only sets when it prints a warning
        max_points_per_centroid=settings.points_per_centroid,
        spherical=settings.spherical,
        gpu=on_gpu(),
    )
    with _one_thread():
        objective = kmeans.train(points)
    num_points = min(len(points), num_clusters * settings.points_per_centroid)
    centroids = np.ascontiguousarray(kmeans.centroids) + mean
    # for unit centroids the largest dot product is the smallest angle, whatever the vector's length
    of_angles = AffineHead(centroids, np.zeros(num_clusters, np.float32))
    head = of_angles if settings.spherical else nearest_centroid(centroids)
    return Clusters(centroids, head, float(objective) / num_points, num_points)


def on_gpu() -> bool:
    """Whether FAISS computes on a GPU here."""
    return faiss.get_num_gpus() > 0


def library() -> str:
    """What computes clusters and neighbours, for the record."""
    return f"faiss {faiss.__version__}, {'GPU' if on_gpu() else 'CPU, one thread'}"


def too_few_vectors(num_clusters: int, num_vectors: int) -> InputError:
    """The refusal of more clusters than vectors."""
    hint = "give a smaller --k or a larger --pixels-per-picture"
    return InputError(f"{num_clusters} clusters asked of {num_vectors} vectors", hint=hint)


def _unit_length(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


@contextmanager
def _one_thread() -> Iterator[None]:
    """FAISS on one thread, so that sums are taken in one order; other libraries get back what they had."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)

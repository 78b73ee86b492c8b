"""Spherical k-means by FAISS, for methods and starts that need centroids of region embeddings."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32


def spherical_centroids(
    vectors: Float32[np.ndarray, "n d"], num_concepts: int, *, iterations: int, restarts: int, seed: int
) -> Float32[np.ndarray, "k d"]:
    """Centroids of unit length, equal to the bit on one machine: FAISS on one thread of the CPU.

    Args:
        vectors: unit length, at least as many as centroids.
        num_concepts: k.
        iterations: Lloyd iterations of each restart.
        restarts: runs from different first centroids; the best is taken.
        seed: of the first centroids.
    """
    import faiss  # only runs that cluster need it

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        kmeans = faiss.Kmeans(
            vectors.shape[1],
            num_concepts,
            niter=iterations,
            nredo=restarts,
            seed=seed % 2**31,
            spherical=True,
            min_points_per_centroid=1,  # FAISS's 39 only sets when it prints a warning
            max_points_per_centroid=len(vectors),
            gpu=False,
        )
        kmeans.train(np.ascontiguousarray(vectors))
    finally:
        faiss.omp_set_num_threads(threads)
    return kmeans.centroids

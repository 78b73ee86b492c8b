"""What an evaluation can be asked: the settings that decide its numbers, with their defaults. Light to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Drawing(NamedTuple):
    """How many pixels of the train pictures are drawn, and by which seed."""

    seed: int = 0
    pixels_per_picture: int = 500
    """Drawn from each train picture, or all its pixels where it has fewer."""
    max_vectors: int = 500_000
    """Of all pictures together: with many pictures fewer pixels are drawn from each. 4 d bytes each and encoder."""

    def pixels_of_each(self, num_pictures: int) -> int:
        """Pixels drawn from each of so many pictures, at least 1."""
        return max(1, min(self.pixels_per_picture, self.max_vectors // max(num_pictures, 1)))


class ProbeSettings(NamedTuple):
    """What decides a linear probe, beside its vectors."""

    l2: float = 1e-5
    """Penalty `l2 / 2 |W|²` added to the mean cross-entropy, on standardised vectors; none on the bias."""
    max_iterations: int = 300
    """Of L-BFGS."""
    gradient_tolerance: float = 1e-5
    """Stops where no part of the gradient (by the well-conditioned variables) is larger,"""
    loss_tolerance: float = 1e-6
    """or where an iteration lowers the loss by less than this share of it."""


class KMeansSettings(NamedTuple):
    """What decides the centroids, beside the vectors and K."""

    seed: int = 0
    """Of FAISS's draw of the points and of the first centroids."""
    iterations: int = 30
    """Lloyd iterations of each restart."""
    restarts: int = 5
    """Runs from different first centroids; the one with the smallest objective is kept."""
    points_per_centroid: int = 2000
    """At most this many vectors for each cluster; more are subsampled by FAISS."""
    spherical: bool = False
    """Vectors and centroids are brought to unit length, so that clusters are by angle."""


class LinearOptions(NamedTuple):
    """A linear evaluation."""

    drawing: Drawing = Drawing()
    """Of the vectors that the probe is fitted on."""
    probe: ProbeSettings = ProbeSettings()
    conditions_seed: int = 0
    """Of the change of light."""


class ClusterOptions(NamedTuple):
    """A cluster evaluation."""

    num_clusters: Sequence[int] = (27,)
    """Every K to evaluate."""
    drawing: Drawing = Drawing()
    """Of the vectors that are clustered."""
    kmeans: KMeansSettings = KMeansSettings()
    conditions_seed: int = 0
    """Of the change of light."""

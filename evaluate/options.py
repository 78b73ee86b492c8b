"""What an evaluation can be asked: the settings that decide its numbers, with their defaults. Light to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Quota(NamedTuple):
    """How many vectors each picture gives, so that all of them together are no more than a limit."""

    each: int
    """At most, of every picture that gives any."""
    num_pictures: int
    num_giving: int
    """Pictures that give any, evenly spaced: all of them, unless the limit is below their number."""

    @classmethod
    def within(cls, limit: int, num_pictures: int, *, each: int) -> Quota:
        """At most `each` of a picture, and at most `limit` of all."""
        num_giving = min(num_pictures, limit)
        return cls(min(each, limit // max(num_giving, 1)), num_pictures, num_giving)

    def of(self, number: int) -> int:
        """Of the picture with this number."""
        giving = (number + 1) * self.num_giving // self.num_pictures > number * self.num_giving // self.num_pictures
        return self.each if giving else 0

    @property
    def settings(self) -> dict[str, int]:
        """For the record, where not all pictures give any."""
        return {} if self.num_giving == self.num_pictures else {"num_pictures": self.num_giving}


class Drawing(NamedTuple):
    """How many pixels of the train pictures are drawn."""

    pixels_per_picture: int = 500
    """Drawn from each train picture, or all its pixels where it has fewer."""
    max_vectors: int = 500_000
    """Of all pictures together, at most: with many pictures fewer pixels are drawn from each, or none from some. 4 d
    bytes each and encoder."""

    def quota(self, num_pictures: int) -> Quota:
        """Pixels drawn from each of so many pictures."""
        return Quota.within(self.max_vectors, num_pictures, each=self.pixels_per_picture)


class ProbeSettings(NamedTuple):
    """What decides a linear probe, beside its vectors."""

    l2: float | None = None
    """Penalty `l2 / 2 |W|²` added to the mean cross-entropy, on standardised vectors; none on the bias. None: of 1e-5,
    1e-4 and 1e-3 the one with the highest mIoU on held-out train pictures, for each encoder."""
    max_iterations: int = 300
    """Of L-BFGS."""
    gradient_tolerance: float = 1e-5
    """Stops where no part of the gradient (by the well-conditioned variables) is larger,"""
    loss_tolerance: float = 1e-6
    """or where an iteration lowers the loss by less than this share of it."""


class SgdSettings(NamedTuple):
    """The paper's linear probe (its authors' settings; one rate there)."""

    learning_rates: Sequence[float] = (0.01, 0.1, 1.0, 10.0)
    """All are trained on the same batches. 0.01 is the authors', whose probe normalised its inputs: unit vectors want
    more."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    power: float = 0.9
    """The rate falls as (1 - share of the iterations done) to this power."""
    iterations: int = 12_000
    batch_size: int = 4096
    """Pixels."""


class KMeansSettings(NamedTuple):
    """What decides the centroids, beside the vectors, K and the seed (of the first centroids and the subsample)."""

    iterations: int = 30
    """Lloyd iterations of each restart."""
    restarts: int = 5
    """Runs from different first centroids; the one with the smallest objective is kept."""
    points_per_centroid: int = 2000
    """At most this many vectors for each cluster; more are subsampled by FAISS."""
    spherical: bool = False
    """Vectors and centroids are brought to unit length, so that clusters are by angle."""


class NeighborSettings(NamedTuple):
    """What decides a vote of neighbours, beside the seed of the memory's draw (Balažević et al. 2023, section 3)."""

    num_neighbors: int = 30
    """That vote on each patch (k)."""
    memory_size: int = 50_000
    """Most patches kept: 4 d bytes each and encoder."""
    patch: int = 16
    """Side of a patch in picture pixels, at least one cell."""
    temperature: float = 0.02
    """A neighbour's vote is exp(cosine / temperature)."""
    index: str = "flat"
    """`flat`: exact; `ivf`: inverted lists, of which a sixteenth is searched."""

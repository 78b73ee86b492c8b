"""Standardisation and PCA of embeddings, fitted on drawn cells of some pictures: in float64, in bounded memory.

One pass over at most NUM_PICTURES pictures serves all encoders of an evaluation. Pictures are evenly spaced through the
shards and cells are drawn by counter, so that equal data give an equal fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float32, Float64, UInt8

from vice.data_specs.entries import ComparedEncoder, FittedOn, Levels, Role
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint
from vice.evaluate.encoders.levels import FittedLevels, LevelsEncoder
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.progress import track
from vice.evaluate.scenes import resized
from vice.evaluate.vectors import draw_pixels
from vice.pipeline.shards import Shards

NUM_PICTURES, CELLS_PER_PICTURE, SEED = 200, 500, 0
"""Of the fit: at most 100,000 vectors decide a mean and a deviation per channel, and the main directions."""
CONSTANT = 1e-5
"""A channel whose deviation is a smaller share of its mean is constant up to rounding, and is not scaled up."""


class Compared(NamedTuple):
    """One encoder of a comparison, before it is fitted."""

    encoder: Encoder
    """A `LevelsEncoder` with its raw maps where `standardise` is set."""
    name: str
    """As results call it."""
    role: Role
    dim: int
    """Values per cell, after any reduction."""
    levels: Levels | None = None
    standardise: bool = False
    dims: int | None = None
    """Reduce standardised vectors to this many values; None keeps all."""


class Prepared(NamedTuple):
    """One encoder of a comparison, ready to embed, with what the record says of it."""

    encoder: Encoder
    about: ComparedEncoder


class Statistics(NamedTuple):
    """What a fit finds."""

    mean: Float64[np.ndarray, " d"]
    deviation: Float64[np.ndarray, " d"]
    """Of the channels; 1 for those that are constant."""
    directions: Float64[np.ndarray, "k d"]
    """First principal directions of the standardised vectors, as many as were wanted, the largest variance first."""
    variances: Float64[np.ndarray, " k"]
    """Of the standardised vectors along the directions."""
    total_variance: float
    """Of the standardised vectors: how many channels are not constant."""
    num_vectors: int


class Moments:
    """Sums over vectors in float64, from which mean, deviation and principal directions follow.

    Args:
        dim: values of a vector (d).
        num_directions: principal directions that are wanted (k); with any, products of all pairs of channels are
            summed, which takes 8 d² bytes.
    """

    def __init__(self, dim: int, *, num_directions: int):
        self._count, self._origin, self._num_directions = 0, None, num_directions
        self._sum, self._squares = np.zeros(dim), np.zeros(dim)
        self._products = np.zeros((dim, dim)) if num_directions else None

    def add(self, vectors: Float32[np.ndarray, "n d"]) -> None:
        """Take some vectors into the sums."""
        values = vectors.astype(np.float64)
        if self._origin is None:
            # sums of squares about a point near the mean lose no digits where they are subtracted
            self._origin = values.mean(axis=0)
        values -= self._origin
        self._count += len(values)
        self._sum += values.sum(axis=0)
        self._squares += np.square(values).sum(axis=0)
        if self._products is not None:
            self._products += values.T @ values

    def statistics(self) -> Statistics:
        """Mean, deviation and directions of all vectors so far."""
        offset = self._sum / self._count
        mean = self._origin + offset
        spread = np.sqrt(np.maximum(self._squares / self._count - offset**2, 0))
        deviation = np.where(spread > CONSTANT * np.abs(mean), spread, 1.0)
        total = float(np.square(spread / deviation).sum())
        if self._products is None:
            return Statistics(mean, deviation, np.zeros((0, len(mean))), np.zeros(0), total, self._count)
        covariance = self._products / self._count - np.outer(offset, offset)
        wanted = (len(mean) - self._num_directions, len(mean) - 1)
        variances, directions = scipy.linalg.eigh(covariance / np.outer(deviation, deviation), subset_by_index=wanted)
        variances, directions = np.maximum(variances[::-1], 0), directions[:, ::-1].T
        # a direction and its opposite are the same: the entry of largest size is positive
        largest = np.abs(directions).argmax(axis=1)
        signs = np.sign(directions[np.arange(len(directions)), largest])
        return Statistics(mean, deviation, directions * signs[:, None], variances, total, self._count)


def check_dims(dims: int | None, dim: int) -> None:
    """Refuse a reduction to more values than there are.

    Raises:
        InputError: says how many there are.
    """
    if dims is not None and dims > dim:
        raise InputError(f"the maps have only {dim} values per cell", where=f"--dims {dims}", hint="give fewer")


def prepare(
    compared: Sequence[Compared],
    shards: Shards,
    *,
    short_side: int | None = None,
    wrap: Callable[[Encoder], Encoder] = lambda encoder: encoder,
) -> list[Prepared]:
    """Fit what has to be fitted, in one pass over some pictures of the shards.

    Args:
        compared: the encoders; those that share a `LevelsEncoder` share its fit and its forward passes.
        shards: clean pictures that are fitted on.
        short_side: bring pictures to this size first; see `resized`.
        wrap: makes an encoder embed by tiles or by averages; both commute with what is fitted.

    Raises:
        WorkError: a sample cannot be read.
    """
    numbers = spaced(len(shards))
    moments = {
        id(one.encoder): (wrap(one.encoder), Moments(one.encoder.dim, num_directions=_most(one.encoder, compared)))
        for one in compared
        if one.standardise
    }
    for number, picture in _pictures(shards, numbers, short_side) if moments else ():
        for encoder, sums in moments.values():
            sums.add(drawn_cells(encoder.embed(picture[None])[0], number))
    found = {key: sums.statistics() for key, (_, sums) in moments.items()}
    data = {"shards": shards.fingerprint, "pictures": numbers, "short_side": short_side}
    name = fingerprint(data | {"cells_per_picture": CELLS_PER_PICTURE, "seed": SEED})
    return [_prepared(one, found.get(id(one.encoder)), shards, len(numbers), name, wrap) for one in compared]


def _most(encoder: Encoder, compared: Sequence[Compared]) -> int:
    return max(one.dims or 0 for one in compared if one.encoder is encoder)


def _prepared(
    one: Compared,
    found: Statistics | None,
    shards: Shards,
    num_pictures: int,
    name: str,
    wrap: Callable[[Encoder], Encoder],
) -> Prepared:
    about = ComparedEncoder(role=one.role, dim=one.dim, levels=one.levels)
    if not one.standardise:
        return Prepared(wrap(one.encoder), about)
    explained = None if one.dims is None else float(found.variances[: one.dims].sum() / found.total_variance)
    fitted_on = FittedOn(
        shards=shards.fingerprint,
        num_pictures=num_pictures,
        cells_per_picture=CELLS_PER_PICTURE,
        num_vectors=found.num_vectors,
        seed=SEED,
        fingerprint=name,
    )
    changes = {
        "standardised": True,
        "reduced_from": None if one.dims is None else one.encoder.dim,
        "explained_variance": explained,
        "fitted_on": fitted_on,
    }
    return Prepared(wrap(fitted(one.encoder, found, name=one.name, dims=one.dims)), about.model_copy(update=changes))


def fitted(encoder: LevelsEncoder, found: Statistics, *, name: str, dims: int | None) -> FittedLevels:
    """An encoder of the same maps, standardised and, with `dims`, reduced."""
    components = None if dims is None else found.directions[:dims]
    return FittedLevels(name, encoder.maps, mean=found.mean, deviation=found.deviation, components=components)


def spaced(count: int) -> list[int]:
    """At most NUM_PICTURES numbers below `count`, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(NUM_PICTURES, count)).round().astype(int)).tolist()


def _pictures(
    shards: Shards, numbers: Sequence[int], short_side: int | None
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
    for number in track(numbers, "pictures for standardisation", total=len(numbers)):
        yield number, resized(shards.sample(number, layers=[]).picture, short_side)


def drawn_cells(embedding: Float32[np.ndarray, "d gh gw"], number: int) -> Float32[np.ndarray, "n d"]:
    """Vectors at the drawn cells of a picture's map: a function of the picture's number and the map's size."""
    vectors = embedding.reshape(len(embedding), -1)
    cells = draw_pixels(np.arange(vectors.shape[1]), num_pixels=CELLS_PER_PICTURE, seed=SEED, picture=number)
    return np.ascontiguousarray(vectors[:, cells].T)

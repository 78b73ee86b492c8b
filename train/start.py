"""The start of a run from a pretrained encoder: a linear map of its maps, fitted once on regions of training pictures.

Without a teacher the encoder is its own: the map is to the principal components of its standardised maps, so that the
embedding at step 0 is the frozen encoder, reduced. With a teacher the map is the ridge regression onto the teacher's
region vectors (Hoerl and Kennard 1970), standardised and reduced in the same way. Everything is kept in checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from vice.data_specs.errors import InputError, WorkError
from vice.train.assignment.clustering import spherical_centroids
from vice.train.config import TrainConfig
from vice.train.network.model import RegionModel

RIDGE = 1e-3
"""Penalty of the regression, as a share of the number of regions; the inputs have unit variance."""
KMEANS_VECTORS, KMEANS_ITERATIONS = 100_000, 20
"""For the concepts that a run starts with."""


class PictureRegions(NamedTuple):
    """One training picture's regions."""

    own: Float[Tensor, "r c"]
    """Means of the encoder's maps, concatenated."""
    teacher: Float[Tensor, "r t"] | None
    """The teacher's vectors of the same regions."""


class Standardised(NamedTuple):
    """A linear reduction of vectors: `components ((x - mean) / deviation)`."""

    mean: Float[Tensor, " t"]
    deviation: Float[Tensor, " t"]
    components: Float[Tensor, "d t"]
    """Principal directions, the largest variance first; orthogonal rows, of length 1 without whitening."""

    def apply(self, vectors: Float[Tensor, "*n t"]) -> Float[Tensor, "*n d"]:
        """Reduced vectors of unit length."""
        return F.normalize((vectors.float() - self.mean) / self.deviation @ self.components.T, dim=-1)


class Start(NamedTuple):
    """What is fitted at step 0; tensors only, on the CPU, for the checkpoint."""

    mean: Float[Tensor, " c"]
    """Of the encoder's concatenated maps over regions."""
    deviation: Float[Tensor, " c"]
    weight: Float[Tensor, "d c"]
    bias: Float[Tensor, " d"]
    concepts: Float[Tensor, "k d"]
    """Clusters of the targets (spherical k-means)."""
    teacher: Standardised | None
    """From the teacher's vectors to the targets; None without a teacher."""

    def put_into(self, model: RegionModel) -> None:
        """Set the model's linear map and concepts."""
        with torch.no_grad():
            linear = model.dense.linear
            for name in ("mean", "deviation", "weight", "bias"):
                getattr(linear, name).copy_(getattr(self, name))
            model.concepts.copy_(self.concepts)

    def state_dict(self) -> dict[str, Any]:
        """Tensors by name."""
        teacher = None if self.teacher is None else self.teacher._asdict()
        return {**self._asdict(), "teacher": teacher}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Start:
        """From `state_dict`."""
        teacher = None if state["teacher"] is None else Standardised(**state["teacher"])
        return cls(**{**state, "teacher": teacher})


def fit_start(pictures: Iterator[PictureRegions], config: TrainConfig) -> Start:
    """Fit the linear map, in float64, so that the same pictures give the same map.

    Args:
        pictures: regions of training pictures.
        config: dimension, number of concepts, seed.

    Raises:
        InputError: fewer regions than concepts, or a teacher of fewer dimensions than the embedding has.
        WorkError: a value is not finite.
    """
    own, teacher = _stacked(pictures)
    dim = config.model.embedding_dim
    mean, deviation = _moments(own)
    inputs = (own - mean) / deviation
    if teacher is None:
        _check_dims(dim, own.shape[1], "the encoder's maps together have", "take a larger encoder, or lower it")
        reduced, weight, bias = None, _components(inputs, dim, config.model.whitening), np.zeros(dim)
        targets = _unit_length(inputs @ weight.T)
    else:
        _check_dims(dim, teacher.shape[1], "the teacher's vectors have", "lower it, or embed with a larger --dims")
        of_teacher = _moments(teacher)
        standardised = (teacher - of_teacher[0]) / of_teacher[1]
        components = _components(standardised, dim, config.model.whitening)
        reduced = Standardised(*(_tensor(part) for part in (*of_teacher, components)))
        targets = _unit_length(standardised @ components.T)
        weight, bias = _ridge(inputs, targets)
    fitted = [_tensor(part) for part in (mean, deviation, weight, bias)]
    return Start(*fitted, _concepts(targets, config), reduced)


def _stacked(
    pictures: Iterator[PictureRegions],
) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, "n t"] | None]:
    parts = [(picture.own.cpu().numpy(), picture.teacher) for picture in pictures]
    own = np.concatenate([part for part, _ in parts]).astype(np.float64)
    teacher = None
    if parts[0][1] is not None:
        teacher = np.concatenate([part.cpu().numpy() for _, part in parts]).astype(np.float64)
    for values, what in ((own, "the encoder's maps are"), (teacher, "the teacher's vectors are")):
        if values is not None and not np.isfinite(values).all():
            raise WorkError(f"{what} not finite on training pictures", hint="use other weights or another teacher")
    return own, teacher


def _check_dims(dim: int, have: int, what: str, hint: str) -> None:
    if dim > have:
        raise InputError(f"{what} {have} dimensions, fewer than {dim}", where="model.embedding_dim", hint=hint)


def _moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every column; a constant column is divided by 1."""
    deviation = vectors.std(0)
    return vectors.mean(0), np.where(deviation > 1e-6, deviation, 1.0)


def _components(vectors: np.ndarray, dim: int, whitening: float) -> np.ndarray:
    """Principal directions of centred vectors [d, c]; the sign makes each one's largest part positive.

    Each is divided by its deviation to the power of `whitening`.
    """
    variances, directions = np.linalg.eigh(vectors.T @ vectors / len(vectors))
    main, variances = directions.T[::-1][:dim], variances[::-1][:dim]
    main = main * np.sign(np.take_along_axis(main, np.abs(main).argmax(1)[:, None], 1))
    return main * np.maximum(variances, 1e-12)[:, None] ** (-whitening / 2)


def _ridge(inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight [d, c] and bias [d] of the regression of targets on standardised inputs."""
    bias = targets.mean(0)
    penalty = RIDGE * len(inputs) * np.eye(inputs.shape[1])
    return np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ (targets - bias)).T, bias


def _concepts(targets: np.ndarray, config: TrainConfig) -> Tensor:
    num_concepts = config.assignment.num_concepts
    vectors = targets[:: max(1, -(-len(targets) // KMEANS_VECTORS))].astype(np.float32)
    if len(vectors) < num_concepts:
        what = (
            f"the pictures that a run starts from have {len(vectors)} regions, fewer than the {num_concepts} concepts"
        )
        raise InputError(what, where="assignment.num_concepts", hint="lower it")
    found = spherical_centroids(vectors, num_concepts, iterations=KMEANS_ITERATIONS, restarts=1, seed=config.seed)
    return F.normalize(torch.from_numpy(found), dim=1)


def _unit_length(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

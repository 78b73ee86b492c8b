"""Pictures of shards to unit vectors of their regions, streamed: one picture is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, Integer, UInt16

from vice.data_specs.regions import IGNORE
from vice.evaluate.embedding.region_means import region_means
from vice.evaluate.encoders.protocol import Encoder, check_finite
from vice.evaluate.progress import track
from vice.pipeline.shards import Shards


class Regions(NamedTuple):
    """One picture's regions as an encoder sees them."""

    number: int
    """Of the picture in the shards."""
    map: UInt16[np.ndarray, "h w"]
    """Ids 0..r-1."""
    embeddings: Float32[np.ndarray, "r d"]
    """Unit length."""
    areas: Int64[np.ndarray, " r"]
    """In pixels."""
    class_counts: Int64[np.ndarray, "r c"] | None
    """Labelled pixels by class; None without labels."""


def embedded_regions(
    encoder: Encoder, shards: Shards, layer: str, what: str, *, numbers: Sequence[int] | None = None
) -> Iterator[Regions]:
    """Embed pictures one by one and pool their regions.

    Args:
        encoder: of any stride.
        shards: with the layer.
        layer: a stored layer's name.
        what: said beside the progress bar.
        numbers: pictures; all by default.

    Raises:
        WorkError: a sample cannot be read; names shard and key.
    """
    numbers = range(len(shards)) if numbers is None else numbers
    for number in track(numbers, what, total=len(numbers)):
        sample = shards.sample(number, layers=[layer])
        regions = sample.regions[layer]
        embedding = encoder.embed(sample.picture[None])[0]
        check_finite(embedding, name=encoder.name, where=sample.key)
        embeddings = pool(embedding, regions, stride=encoder.stride)
        counts = None
        if sample.labels is not None:
            counts = class_counts(regions, sample.labels, len(embeddings), len(shards.classes))
        areas = np.bincount(regions.reshape(-1), minlength=len(embeddings)).astype(np.int64)
        yield Regions(number, regions, embeddings, areas, counts)


def pool(
    embedding: Float32[np.ndarray, "d gh gw"], regions: Integer[np.ndarray, "h w"], *, stride: int
) -> Float32[np.ndarray, "r d"]:
    """Mean over every region of the bilinearly upsampled map, brought to unit length (Eq. 2).

    Args:
        embedding: of the picture.
        regions: ids 0..r-1, all of them used.
        stride: picture pixels per cell.
    """
    return unit_length(region_means(embedding, regions, stride=stride))


def unit_length(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Each vector divided by its length; zero vectors stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))


def class_counts(
    regions: Integer[np.ndarray, "h w"], labels: UInt16[np.ndarray, "h w"], num_regions: int, num_classes: int
) -> Int64[np.ndarray, "r c"]:
    """Labelled pixels of every region by class."""
    labelled = labels != IGNORE
    pairs = regions[labelled].astype(np.int64) * num_classes + labels[labelled]
    return np.bincount(pairs, minlength=num_regions * num_classes).reshape(num_regions, num_classes)

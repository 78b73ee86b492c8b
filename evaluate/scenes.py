"""The labelled pictures of an evaluation: opened and checked, numbered, read one by one, grouped into batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from vice.data_specs.entries import DataRef
from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.regions import IGNORE
from vice.evaluate.progress import track
from vice.pipeline.shards import Shards

Pictured = TypeVar("Pictured")
"""A scene, or anything else that has a `picture`."""

PIXELS_AT_ONCE = 1 << 20
"""Picture pixels that are embedded together."""


class Scene(NamedTuple):
    """One labelled picture."""

    number: int
    """Its place among the pictures of the evaluation; every draw for it is keyed by this."""
    key: str
    picture: UInt8[np.ndarray, "h w 3"]
    """As the encoders meet it: stored, or brought to the size that was asked for."""
    labels: UInt16[np.ndarray, "lh lw"]
    """Classes or IGNORE, always at the stored size."""


def open_pair(train: str | Path, val: str | Path, *, class_set: str | None = None) -> tuple[Shards, Shards]:
    """Open train and val shards for an evaluation with labels, as stored or in a coarser set of classes of the spec.

    Raises:
        InputError: a folder is no complete OUT, has no labels or no such set of classes, the classes differ, or both
            are the same data.
    """
    pair = Shards(train, class_set=class_set), Shards(val, class_set=class_set)
    for shards in pair:
        if not shards.has_labels:
            hint = "shard labelled pictures with vice-prep shard --dataset SPEC"
            raise InputError("these shards have no labels", where=shards.address, hint=hint)
    ours, theirs = (shards.classes for shards in pair)
    if ours != theirs:
        what = f"train has {len(ours)} classes ({_some(ours)}), val has {len(theirs)} ({_some(theirs)})"
        raise InputError(f"the classes differ: {what}", where=val, hint="shard both with the same --dataset")
    if pair[0].fingerprint == pair[1].fingerprint:
        hint = "give pictures that nothing is fitted on as --val"
        raise InputError("train and val are the same shards", where=val, hint=hint)
    return pair


def shared_pictures(train: Shards, val: Shards, *, limit: float) -> float:
    """Share of the val pictures whose source file is also a train picture, byte for byte.

    Args:
        train: that probes are fitted on.
        val: that is scored.
        limit: the largest share that is accepted.

    Raises:
        InputError: the share is larger; names a picture of both.
    """
    known = set(train.manifest["source_sha256"].to_pylist())
    hashes, sources = (val.manifest[name].to_pylist() for name in ("source_sha256", "source"))
    shared = [source for sha256, source in zip(hashes, sources, strict=True) if sha256 in known]
    share = len(shared) / len(val)
    if share > limit:
        what = f"{len(shared):,} of {len(val):,} val pictures are also in train, for example {shared[0]}"
        raise InputError(what, where=val.address, hint=f"remove them, or accept them with --max-shared {_above(share)}")
    return share


def _above(share: float) -> float:
    """The share rounded up to two decimals."""
    return math.ceil(100 * share) / 100


def scenes(
    pool: Sequence[Shards], what: str, *, numbers: Sequence[int] | None = None, short_side: int | None = None
) -> Iterator[Scene]:
    """Read the pictures of one or more shards in order, numbered through all of them, with a progress bar.

    Args:
        pool: the shards, one after another.
        what: said beside the bar.
        numbers: only these, ascending; all by default.
        short_side: bring pictures to this size first; see `resized`.

    Raises:
        WorkError: a sample cannot be read, or a label is no class; names shard and key.
    """
    numbers = range(sum(len(shards) for shards in pool)) if numbers is None else numbers
    for number in track(numbers, what, total=len(numbers)):
        place = number
        for shards in pool:
            if place < len(shards):
                sample = shards.sample(place, layers=[])
                _check_labels(sample.labels, shards, place)
                yield Scene(number, sample.key, resized(sample.picture, short_side), sample.labels)
                break
            place -= len(shards)


def _check_labels(labels: UInt16[np.ndarray, "h w"], shards: Shards, number: int) -> None:
    """Refuse a label that is no class: `vice-prep shard` writes none, other programs may."""
    wrong = labels[(labels >= len(shards.classes)) & (labels != IGNORE)]
    if wrong.size:
        what = f"label value {int(wrong[0])} is none of the {len(shards.classes)} classes"
        raise WorkError(what, where=shards.where(number), hint="run vice-prep verify --deep, and shard again")


def resized(picture: UInt8[np.ndarray, "h w 3"], short_side: int | None) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture with its shorter side of so many pixels (area-averaged when made smaller); as it is for None."""
    if short_side is None or short_side == min(picture.shape[:2]):
        return picture
    scale = short_side / min(picture.shape[:2])
    width, height = (max(1, round(side * scale)) for side in picture.shape[1::-1])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def in_batches(scenes: Iterable[Pictured]) -> Iterator[list[Pictured]]:
    """Group consecutive scenes (or others with a `picture`) of one size, up to PIXELS_AT_ONCE and at least one."""
    batch: list[Pictured] = []
    for scene in scenes:
        same_size = batch and batch[0].picture.shape == scene.picture.shape
        pixels = scene.picture.shape[0] * scene.picture.shape[1]
        if batch and (not same_size or (len(batch) + 1) * pixels > PIXELS_AT_ONCE):
            yield batch
            batch = []
        batch.append(scene)
    if batch:
        yield batch


def data_ref(shards: Shards) -> DataRef:
    """How results name these shards."""
    return DataRef(
        dataset=shards.spec.name,
        split=shards.record.settings.split,
        num_pictures=len(shards),
        fingerprint=shards.fingerprint,
        data_version=shards.record.data_version,
        class_set=shards.class_set,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

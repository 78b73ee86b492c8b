"""One input → one sample, or the reason why not: the function that all of prep is about, without any executor."""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vice.data_specs.dataset import DatasetSpec, PictureName
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import canonical_json
from vice.data_specs.shard_format import DENSITY_MEMBER, LABELS_MEMBER, META_MEMBER, PrepSettings, picture_member
from vice.pipeline.prep.decoding import decode_labels
from vice.pipeline.prep.density import density_map
from vice.pipeline.prep.inputs import printable
from vice.pipeline.prep.picture import StandardPicture, encode_map, standardise
from vice.pipeline.prep.regions import region_map
from vice.pipeline.prep.rejection import Rejected, Rejection
from vice.pipeline.prep.tar_headers import Place
from vice.pipeline.prep.tar_index import read_indexed
from vice.pipeline.prep.tars import Input
from vice.pipeline.storage.base import EndsEarly, Source

SAMPLE_VERSION = "2"

READ_FAILED = "cannot be read (Input/output error)"

_FAULTS_OF_THE_FILE = {
    errno.EACCES: "cannot be read (Permission denied)",
    errno.EPERM: "cannot be read (Operation not permitted)",
    errno.EISDIR: "is a folder",
    errno.ENOTDIR: "is missing",
    errno.ELOOP: "is a link that leads to itself",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.EIO: READ_FAILED,
}
"""What is wrong with an input; any other error of a disk or store is not its fault and stops the work."""

_RETRY_DELAYS = (1.0, 4.0)
"""Seconds before a read that failed with an input/output error is tried again: a bad sector stays, a glitch passes."""

_BYTES_PER_PIXEL = 8
_BYTES_BESIDE_PIXELS = 64 << 20
"""A file of more bytes than this and eight for each pixel allowed (16-bit RGBA, not compressed) is no picture."""


class Recipe(NamedTuple):
    """What a sample is made with, whatever the input."""

    source: Source
    """The root of the inputs' paths."""
    spec: DatasetSpec
    """How the dataset names its files and classes."""
    settings: PrepSettings
    """Everything else that decides the bytes."""


@dataclass(frozen=True)
class PreparedSample:
    """A sample ready to be written into a shard."""

    key: str
    members: dict[str, bytes]
    """Extension to bytes, in the order in which they stand in the tar."""
    row: dict[str, Any]
    """Its row of the manifest, without `shard` and `index`."""


def make_sample(one: Input, key: str, recipe: Recipe) -> PreparedSample | Rejection:
    """Read one input and make everything that is stored of it.

    Args:
        one: the input.
        key: the sample's key.
        recipe: what it is made with.

    Raises:
        OSError: the source's disk or store failed.
    """
    try:
        return _make_sample(one, key, recipe)
    except Rejected as rejected:
        return Rejection(printable(one.path), rejected.stage, rejected.reason)


def _make_sample(one: Input, key: str, recipe: Recipe) -> PreparedSample:
    spec, settings = recipe.spec, recipe.settings
    name = spec.picture(one.name)
    if name is None and one.problem is None:
        raise Rejected("name", f"its path fits no picture of dataset '{spec.name}'")
    data = read_bytes(one, recipe.source, settings)
    picture = standardise(data, settings)
    regions = {layer.name: region_map(picture.pixels, layer) for layer in settings.regions}
    labels = _stored_labels(one, name, picture, recipe)
    num_regions = {layer: int(ids.max()) + 1 for layer, ids in regions.items()}
    row = _row(key, one.path, data, name, picture, num_regions)

    members = {picture_member(settings): picture.data}
    members |= {layer.member: encode_map(regions[layer.name]) for layer in settings.regions}
    members[DENSITY_MEMBER] = encode_map(density_map(picture.pixels, settings.density_stride))
    if labels is not None:
        members[LABELS_MEMBER] = encode_map(labels)
    hashes = {member: hashlib.sha256(content).hexdigest() for member, content in members.items()}
    members[META_MEMBER] = canonical_json(row | {"kept_original_bytes": picture.kept_original, "sha256": hashes})
    sizes = {member: len(content) for member, content in members.items()}
    return PreparedSample(key, members, row | {"member_bytes": sizes, "has_labels": labels is not None})


def read_bytes(one: Input, source: Source, settings: PrepSettings) -> bytes:
    """The bytes of an input's picture, by itself or in a tar.

    Raises:
        Rejected: it is missing, no file, empty or larger than any picture, or its tar cannot be read.
        OSError: the source's disk or store failed.
    """
    if one.problem is not None:
        raise Rejected("read", one.problem)
    return _read(source, settings, one, one.name, one.picture, stage="read", what="the file")


def _row(
    key: str, path: str, data: bytes, name: PictureName, picture: StandardPicture, num_regions: dict[str, int]
) -> dict[str, Any]:
    """The facts of a sample that both its json member and the manifest hold."""
    height, width = picture.pixels.shape[:2]
    return {
        "key": key,
        "source": printable(path),
        "source_sha256": hashlib.sha256(data).hexdigest(),
        "group": None if name.group is None else printable(name.group),
        "width": width,
        "height": height,
        "original_width": picture.geometry.upright[0],
        "original_height": picture.geometry.upright[1],
        "num_regions": num_regions,
    }


def _stored_labels(one: Input, name: PictureName, picture: StandardPicture, recipe: Recipe) -> np.ndarray | None:
    """The label map as stored, uint16 [h, w], classes or IGNORE; None where the dataset has no labels."""
    if name.label is None:
        return None
    if one.tar is not None and one.label is None:
        raise Rejected("labels", "its label map is missing")
    data = _read(recipe.source, recipe.settings, one, name.label, one.label, stage="labels", what="its label map")
    values = decode_labels(data, recipe.settings.max_pixels)
    width, height = picture.source_size
    if values.shape != (height, width):
        size = f"{values.shape[1]} × {values.shape[0]}"
        raise Rejected("labels", f"its label map has {size} pixels, the picture {width} × {height}")
    try:
        return picture.geometry.labels(recipe.spec.classes_of(values))
    except InputError as error:
        raise Rejected("labels", error.what) from None


def _read(
    source: Source, settings: PrepSettings, one: Input, name: str, place: Place | None, *, stage: str, what: str
) -> bytes:
    """Read a file of an input, by itself or in its tar, unless it is larger than any picture."""
    limit = settings.max_pixels * _BYTES_PER_PIXEL + _BYTES_BESIDE_PIXELS

    def read() -> bytes | None:
        if one.tar is None:
            return _at_most(source, name, limit)
        if place.size > limit:
            return None
        if one.header_size:
            return read_indexed(source, one.tar, place, name, one.header_size)
        return source.read_ranges(one.tar, [place])[0]

    try:
        data = _with_retries(read)
    except (FileNotFoundError, EndsEarly) as error:
        told = "is missing" if isinstance(error, FileNotFoundError) else f"breaks off with its tar ({error})"
        raise Rejected(stage, f"{what} {told}") from None
    except OSError as error:
        if error.errno not in _FAULTS_OF_THE_FILE:
            raise
        raise Rejected(stage, f"{what} {_FAULTS_OF_THE_FILE[error.errno]}") from None
    if data is None:
        raise Rejected(stage, f"{what} has more than {limit:,} bytes, more than a picture can have")
    if not data:
        raise Rejected(stage, f"{what} is empty")
    return data


def _with_retries(read: Callable[[], bytes | None]) -> bytes | None:
    """What `read` returns, tried again after input/output errors."""
    for delay in _RETRY_DELAYS:
        try:
            return read()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            time.sleep(delay)
    return read()


def _at_most(storage: Source, path: str, limit: int) -> bytes | None:
    """A whole file, or None where it is larger."""
    chunks, size = [], 0
    for chunk in storage.chunks(path):
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)

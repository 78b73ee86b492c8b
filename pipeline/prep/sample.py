"""One input → one sample, or the reason why not: the function that all of prep is about, without any executor."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vice.data_specs.dataset import DatasetSpec, PictureName
from vice.data_specs.errors import InputError, is_interrupt
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
from vice.pipeline.prep.tar_members import REPEATED_NAME
from vice.pipeline.prep.tars import Input
from vice.pipeline.storage.base import EndsEarly, Source, StoreFailure
from vice.pipeline.storage.retries import OF_THIS_PROCESS, Retries

SAMPLE_VERSION = "2"

UNREADABLE = "unreadable"
"""Code of what could not be read after all attempts."""

_FAULTS_OF_THE_FILE = {
    errno.EACCES: "cannot be read (Permission denied)",
    errno.EPERM: "cannot be read (Operation not permitted)",
    errno.EISDIR: "is a folder",
    errno.ENOTDIR: "is missing",
    errno.ELOOP: "is a link that leads to itself",
    errno.ENAMETOOLONG: "has a name that is too long",
}
"""What is wrong with an input; any other error of a disk is not its fault and stops the work."""

_FAULTS_THAT_MAY_PASS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
"""Of a disk, or of a machine that serves files."""

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
    retries: Retries | None = None
    """Of reads that fail; those of this process if not given."""


@dataclass(frozen=True)
class PreparedSample:
    """A sample ready to be written into a shard."""

    key: str
    members: dict[str, bytes]
    """Extension to bytes, in the order in which they stand in the tar."""
    row: dict[str, Any]
    """Its row of the manifest, without `shard` and `index`."""
    notes: tuple[str, ...] = ()
    """What should be known of how its picture is stored."""


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
        if is_interrupt(rejected):
            raise KeyboardInterrupt from rejected  # the picture is not to blame
        return Rejection(printable(one.path), rejected.stage, rejected.reason, rejected.code)


def _make_sample(one: Input, key: str, recipe: Recipe) -> PreparedSample:
    spec, settings = recipe.spec, recipe.settings
    name = spec.picture(one.name)
    if name is None and one.problem is None:
        raise Rejected("name", f"its path fits no picture of dataset '{spec.name}'")
    data = read_bytes(one, recipe)
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
    meta = row | _depth_facts(picture, settings) | {"kept_original_bytes": picture.kept_original, "sha256": hashes}
    members[META_MEMBER] = canonical_json(meta)
    sizes = {member: len(content) for member, content in members.items()}
    row |= {"member_bytes": sizes, "has_labels": labels is not None}
    return PreparedSample(key, members, row, picture.notes)


def _depth_facts(picture: StandardPicture, settings: PrepSettings) -> dict[str, int]:
    """The white level that was used, and the largest value, of a picture of 16 bits per channel."""
    if settings.white_level is None or picture.depth is None:
        return {}
    return {"white_level": picture.depth.white, "largest_value": picture.depth.maximum}


def read_bytes(one: Input, recipe: Recipe) -> bytes:
    """The bytes of an input's picture, by itself or in a tar.

    Raises:
        Rejected: it is missing, no file, empty or larger than any picture, or its tar cannot be read.
        OSError: the source's disk or store failed.
    """
    if one.problem is not None:
        raise Rejected("read", one.problem, "duplicate-name" if one.problem == REPEATED_NAME else None)
    return _read(recipe, one, one.name, one.picture, stage="read", what="the file")


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
        raise Rejected("labels", "its label map is missing", "no-label")
    data = _read(recipe, one, name.label, one.label, stage="labels", what="its label map")
    values = decode_labels(data, recipe.settings.max_pixels)
    width, height = picture.source_size
    if values.shape != (height, width):
        size = f"{values.shape[1]} × {values.shape[0]}"
        raise Rejected("labels", f"its label map has {size} pixels, the picture {width} × {height}")
    try:
        return picture.geometry.labels(recipe.spec.classes_of(values))
    except InputError as error:
        raise Rejected("labels", error.what) from None


def _read(recipe: Recipe, one: Input, name: str, place: Place | None, *, stage: str, what: str) -> bytes:
    """Read a file of an input, by itself or in its tar, unless it is larger than any picture."""
    source = recipe.source
    limit = recipe.settings.max_pixels * _BYTES_PER_PIXEL + _BYTES_BESIDE_PIXELS

    def read() -> bytes | None:
        if one.tar is None:
            return _at_most(source, name, limit)
        if place.size > limit:
            return None
        if one.header_size:
            return read_indexed(source, one.tar, place, name, one.header_size)
        return source.read_ranges(one.tar, [place])[0]

    retries = OF_THIS_PROCESS if recipe.retries is None else recipe.retries
    try:
        data = retries(read, lambda error: error.errno in _FAULTS_THAT_MAY_PASS)
    except OSError as error:
        raise _rejected_read(error, stage, what) from None
    if data is None:
        raise Rejected(stage, f"{what} has more than {limit:,} bytes, more than a picture can have", "too-large")
    if not data:
        raise Rejected(stage, f"{what} is empty", "empty")
    return data


def _rejected_read(error: OSError, stage: str, what: str) -> Rejected:
    """The rejection of an input that cannot be read.

    Raises:
        OSError: it is not its fault.
    """
    if isinstance(error, FileNotFoundError):
        return Rejected(stage, f"{what} is missing", "missing" if stage == "read" else "no-label")
    if isinstance(error, EndsEarly):
        return Rejected(stage, f"{what} breaks off with its tar ({error})", "read")
    if isinstance(error, StoreFailure):
        return Rejected(stage, f"{what} cannot be read ({error.status})", UNREADABLE)
    if error.errno in _FAULTS_THAT_MAY_PASS:
        return Rejected(stage, f"{what} cannot be read ({os.strerror(error.errno)})", UNREADABLE)
    if error.errno in _FAULTS_OF_THE_FILE:
        return Rejected(stage, f"{what} {_FAULTS_OF_THE_FILE[error.errno]}", "read")
    raise error


def _at_most(storage: Source, path: str, limit: int) -> bytes | None:
    """A whole file, or None where it is larger."""
    chunks, size = [], 0
    for chunk in storage.chunks(path):
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)

"""One input → one sample, or the reason why not: the function that all of prep is about, without any executor."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vice.data_specs.dataset import DatasetSpec, PictureName
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import canonical_json
from vice.data_specs.shard_format import DENSITY_MEMBER, LABELS_MEMBER, META_MEMBER, PrepSettings, picture_member
from vice.pipeline.prep.decoding import decode_labels
from vice.pipeline.prep.density import density_map
from vice.pipeline.prep.picture import StandardPicture, encode_map, standardise
from vice.pipeline.prep.regions import region_map
from vice.pipeline.prep.rejection import Rejected, Rejection
from vice.pipeline.prep.sources import printable


@dataclass(frozen=True)
class PreparedSample:
    """A sample ready to be written into a shard."""

    key: str
    members: dict[str, bytes]
    """Extension to bytes, in the order in which they stand in the tar."""
    row: dict[str, Any]
    """Its row of the manifest, without `shard` and `index`."""


def make_sample(
    root: Path, path: str, key: str, spec: DatasetSpec, settings: PrepSettings
) -> PreparedSample | Rejection:
    """Read one input and make everything that is stored of it.

    Args:
        root: the source folder.
        path: the input, relative to it.
        key: the sample's key.
        spec: how the dataset names its files and classes.
        settings: everything else that decides the bytes.
    """
    try:
        return _make_sample(root, path, key, spec, settings)
    except Rejected as rejected:
        return Rejection(printable(path), rejected.stage, rejected.reason)


def _make_sample(root: Path, path: str, key: str, spec: DatasetSpec, settings: PrepSettings) -> PreparedSample:
    name = spec.picture(path)
    if name is None:
        raise Rejected("name", f"its path fits no picture of dataset '{spec.name}'")
    data = _read(root / path, "read", "the file")
    picture = standardise(data, settings)
    regions = {layer.name: region_map(picture.pixels, layer) for layer in settings.regions}
    labels = _stored_labels(root, name, spec, picture, settings.max_pixels)
    num_regions = {layer: int(ids.max()) + 1 for layer, ids in regions.items()}
    row = _row(key, path, data, name, picture, num_regions)

    members = {picture_member(settings): picture.data}
    members |= {layer.member: encode_map(regions[layer.name]) for layer in settings.regions}
    members[DENSITY_MEMBER] = encode_map(density_map(picture.pixels, settings.density_stride))
    if labels is not None:
        members[LABELS_MEMBER] = encode_map(labels)
    members[META_MEMBER] = canonical_json(row | {"kept_original_bytes": picture.kept_original})
    sizes = {member: len(content) for member, content in members.items()}
    return PreparedSample(key, members, row | {"member_bytes": sizes, "has_labels": labels is not None})


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


def _stored_labels(
    root: Path, name: PictureName, spec: DatasetSpec, picture: StandardPicture, max_pixels: int
) -> np.ndarray | None:
    """The label map as stored, uint16 [h, w], classes or IGNORE; None where the dataset has no labels."""
    if name.label is None:
        return None
    values = decode_labels(_read(root / name.label, "labels", "its label map"), max_pixels)
    width, height = picture.source_size
    if values.shape != (height, width):
        size = f"{values.shape[1]} × {values.shape[0]}"
        raise Rejected("labels", f"its label map has {size} pixels, the picture {width} × {height}")
    try:
        return picture.geometry.labels(spec.classes_of(values))
    except InputError as error:
        raise Rejected("labels", error.what) from None


def _read(path: Path, stage: str, what: str) -> bytes:
    """Read a whole file; other errors of the disk than these are not the file's fault and stop the work."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Rejected(stage, f"{what} is missing") from None
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise Rejected(stage, f"{what} cannot be read ({error.strerror})") from None
    if not data:
        raise Rejected(stage, f"{what} is empty")
    return data

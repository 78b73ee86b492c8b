"""A sample of a shard: from the bytes of its members to NumPy arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass

import cv2
import numpy as np

from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import (
    DENSITY_MEMBER,
    LABELS_MEMBER,
    META_MEMBER,
    DatasetRecord,
    picture_member,
)


@dataclass(frozen=True)
class Sample:
    """One sample as NumPy arrays."""

    key: str
    picture: np.ndarray
    """uint8 [h, w, 3], RGB."""
    regions: dict[str, np.ndarray]
    """Layer name (`slic20`) to uint16 [h, w], ids 0..R-1."""
    density: np.ndarray
    """uint8 [ceil(h / stride), ceil(w / stride)]."""
    labels: np.ndarray | None
    """uint16 [h, w], classes or IGNORE; None where the dataset has none."""
    meta: dict
    """The sample's json member."""


def decode_sample(key: str, data: dict[str, bytes], record: DatasetRecord, where: str) -> Sample:
    """A sample from the bytes of its members.

    Args:
        key: the sample's key.
        data: extension to bytes; of region layers those that are there are decoded.
        record: of the shards.
        where: shard and key, for messages.

    Raises:
        WorkError: a member is missing or cannot be decoded.
    """
    present = [member for member in data if member in _maps(record)]
    try:
        picture = decode(data[picture_member(record.settings)], cv2.IMREAD_COLOR_RGB, where)
        maps = {member: decode(data[member], cv2.IMREAD_UNCHANGED, where) for member in present}
        density, meta = maps[DENSITY_MEMBER], json.loads(data[META_MEMBER])
    except KeyError as error:
        raise WorkError(f"sample has no member {error}", where=where, hint="run vice-prep verify") from None
    except ValueError:
        raise WorkError(f"its {META_MEMBER} cannot be read", where=where, hint="run vice-prep verify --deep") from None
    regions = {layer.name: maps[layer.member] for layer in record.settings.regions if layer.member in maps}
    return Sample(key, picture, regions, density, maps.get(LABELS_MEMBER), meta)


def _maps(record: DatasetRecord) -> set[str]:
    return {DENSITY_MEMBER, LABELS_MEMBER, *(layer.member for layer in record.settings.regions)}


def decode(data: bytes, flags: int, where: str) -> np.ndarray:
    """Decode a member with OpenCV's `flags`.

    Args:
        data: bytes of the member.
        flags: of `cv2.imdecode`.
        where: shard and key, for messages.

    Raises:
        WorkError: it cannot be decoded.
    """
    array = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if array is None:
        raise WorkError("a sample cannot be decoded", where=where, hint="run vice-prep verify --deep")
    return array

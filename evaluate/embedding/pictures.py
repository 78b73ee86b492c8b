"""The pictures to embed: shards, or anything that `vice-prep shard` takes, numbered and read one by one."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from vice.data_specs.dataset import load_dataset
from vice.data_specs.shard_format import DATASET_FILE, PrepSettings
from vice.evaluate.scenes import resized
from vice.pipeline.prep.decoding import decode_strictly
from vice.pipeline.prep.geometry import plan_geometry
from vice.pipeline.prep.headers import read_header
from vice.pipeline.prep.inputs import find_inputs, printable
from vice.pipeline.prep.rejection import Rejected
from vice.pipeline.prep.sample import Recipe, read_bytes
from vice.pipeline.prep.tar_members import REPEATED_NAME
from vice.pipeline.shards import Shards
from vice.pipeline.storage.opening import open_storage

MAX_SIDE = 65_500
"""Pictures are not made smaller unless it is asked for."""


class Picture(NamedTuple):
    """One picture, or why there is none."""

    key: str
    """Its path relative to SOURCE, or its key in the shards; names its files."""
    pixels: UInt8[np.ndarray, "h w 3"] | None
    rejected: str = ""
    """Why it cannot be read."""


@runtime_checkable
class Pictures(Protocol):
    """A source of pictures."""

    fingerprint: str
    """Names the pictures exactly."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> Picture:
        """One picture, upright, RGB, at the size that was asked for.

        Raises:
            OSError: a disk or store failed.
            WorkError: a shard was damaged.
        """
        ...

    def key(self, number: int) -> str:
        """Name of its files, unique in the source."""
        ...


def open_pictures(source: str, *, short_side: int | None = None) -> Pictures:
    """Open a source.

    Args:
        source: shards, a folder, a quoted glob, a list or tars, on a disk or a store.
        short_side: bring pictures to this size; as they are by default.

    Raises:
        InputError: no such source, or no picture in it.
    """
    try:
        is_shards = open_storage(source).exists(DATASET_FILE)
    except OSError:
        is_shards = False
    return _OfShards(source, short_side) if is_shards else _OfFiles(source, short_side)


class _OfShards:
    def __init__(self, source: str, short_side: int | None):
        self._shards, self._short_side = Shards(source), short_side
        self.fingerprint = self._shards.fingerprint

    def __len__(self) -> int:
        return len(self._shards)

    def key(self, number: int) -> str:
        return self._shards.keys[number]

    def read(self, number: int) -> Picture:
        sample = self._shards.sample(number, layers=[])
        return Picture(sample.key, resized(sample.picture, self._short_side))


class _OfFiles:
    def __init__(self, source: str, short_side: int | None):
        plain = load_dataset("image_folder")
        self._inputs, self._short_side = find_inputs(source, plain), short_side
        self._settings = PrepSettings(max_side=MAX_SIDE, white_level="auto")
        self._recipe = Recipe(self._inputs.storage, plain, self._settings)
        self.fingerprint = self._inputs.fingerprint

    def __len__(self) -> int:
        return len(self._inputs)

    def key(self, number: int) -> str:
        # the suffix stays: a.jpg and a.png are two pictures
        one = self._inputs[number]
        key = printable(one.path).lstrip("/")
        # a tar may hold a name repeatedly
        return f"{key} (copy {number})" if one.problem == REPEATED_NAME else key

    def read(self, number: int) -> Picture:
        try:
            pixels = self._decoded(read_bytes(self._inputs[number], self._recipe))
        except Rejected as rejected:
            return Picture(self.key(number), None, rejected.reason)
        return Picture(self.key(number), resized(pixels, self._short_side))

    def _decoded(self, data: bytes) -> UInt8[np.ndarray, "h w 3"]:
        header = read_header(data, self._settings.max_pixels)
        geometry = plan_geometry(header.width, header.height, header.orientation, self._settings)
        white_level = self._settings.white_level
        decoded = decode_strictly(data, header, self._settings.max_pixels, white_level=white_level)
        return geometry.picture(decoded.pixels)

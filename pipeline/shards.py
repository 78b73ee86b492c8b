"""Reading shards: samples by number, straight from the tars by offset (through the DALI index that prep wrote)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.shard_format import (
    DENSITY_MEMBER,
    LABELS_MEMBER,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    META_MEMBER,
    SHARD_FOLDER,
    picture_member,
    read_dataset_record,
)

INDEX_VERSION = "v1.2"


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


class Shards:
    """A complete OUT of `vice-prep shard`, opened for reading.

    Args:
        folder: the OUT folder.
        class_set: give labels in this set of classes of the spec (`27`), rather than as stored.

    Raises:
        InputError: not a complete folder of shards of this format version, or no such set of classes.
    """

    def __init__(self, folder: str | Path, *, class_set: str | None = None):
        self.folder = Path(folder)
        self.record = read_dataset_record(self.folder)
        self.class_set = class_set
        self._class_table = None if class_set is None else self.spec.class_set(class_set)
        self.manifest = _read_manifest(self.folder / MANIFEST_FILE)
        self.keys: list[str] = self.manifest["key"].to_pylist()
        self._shard_of = self.manifest["shard"].to_pylist()
        self._index_in_shard = self.manifest["index"].to_numpy()
        self._members: dict[str, list[dict[str, tuple[int, int]]]] = {}

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def spec(self) -> DatasetSpec:
        """The dataset's spec, as it was when sharded."""
        return self.record.dataset

    @property
    def classes(self) -> list[str]:
        """Names of the classes that labels are given in."""
        return self.spec.classes if self._class_table is None else self._class_table.classes

    @property
    def fingerprint(self) -> str:
        """Names these data exactly."""
        return self.record.fingerprint

    @property
    def layers(self) -> list[str]:
        """Names of the stored region layers (`slic20`)."""
        return [layer.name for layer in self.record.settings.regions]

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label map."""
        return len(self) > 0 and all(self.manifest["has_labels"].to_pylist())

    @cached_property
    def sizes(self) -> np.ndarray:
        """int32 [n, 2]: width and height of every picture, in pixels."""
        return np.stack([self.manifest["width"].to_numpy(), self.manifest["height"].to_numpy()], axis=1)

    @cached_property
    def groups(self) -> list[str | None]:
        """The group (drive, patient) of every sample, None where the spec names none."""
        return self.manifest["group"].to_pylist()

    def layer_named(self, layer: str) -> str:
        """The stored name (`slic20`) of a layer given as `slic:20` or `slic20`.

        Raises:
            InputError: no such layer here; lists those that are.
        """
        for stored in self.record.settings.regions:
            if layer in {stored.name, str(stored)}:
                return stored.name
        have = ", ".join(str(stored) for stored in self.record.settings.regions)
        raise InputError(f"no region layer '{layer}'", where=self.folder, hint=f"stored: {have}; or use grid:N, pixel")

    def where(self, number: int) -> str:
        """Shard and key of a sample, for messages."""
        return f"{self.folder / SHARD_FOLDER / self._shard_of[number]}, key {self.keys[number]}"

    def read(self, number: int, members: list[str]) -> list[bytes]:
        """Bytes of some members (`jpg`, `slic20.png`) of one sample.

        Raises:
            WorkError: the shard cannot be read or lacks the member; names shard and key.
        """
        places = self._places(self._shard_of[number])[self._index_in_shard[number]]
        try:
            with (self.folder / SHARD_FOLDER / self._shard_of[number]).open("rb", buffering=0) as tar:
                return [_read_at(tar, *places[member]) for member in members]
        except KeyError as error:
            raise WorkError(
                f"sample has no member {error}", where=self.where(number), hint="run vice-prep verify"
            ) from None
        except OSError as error:
            raise WorkError(
                f"cannot read the shard ({error})", where=self.where(number), hint="run vice-prep verify"
            ) from None

    def sample(self, number: int, layers: list[str] | None = None) -> Sample:
        """One sample as NumPy arrays, with all region layers or the named ones (`slic20`).

        Raises:
            WorkError: a member cannot be read or decoded; names shard and key.
        """
        layers = self.layers if layers is None else [self.layer_named(layer) for layer in layers]
        has_labels = self.manifest["has_labels"][number].as_py()
        members = [picture_member(self.record.settings), META_MEMBER, DENSITY_MEMBER]
        members += [f"{layer}.png" for layer in layers] + ([LABELS_MEMBER] if has_labels else [])
        picture, meta, density, *maps = self.read(number, members)
        decoded = [self.decode(data, cv2.IMREAD_UNCHANGED, number) for data in (density, *maps)]
        return Sample(
            key=self.keys[number],
            picture=self.decode(picture, cv2.IMREAD_COLOR_RGB, number),
            regions=dict(zip(layers, decoded[1:], strict=False)),
            density=decoded[0],
            labels=self._labels(decoded[-1]) if has_labels else None,
            meta=json.loads(meta),
        )

    def _labels(self, stored: np.ndarray) -> np.ndarray:
        return stored if self._class_table is None else self._class_table.table[stored]

    def decode(self, data: bytes, flags: int, number: int) -> np.ndarray:
        """Decode a member of a sample with OpenCV's `flags`.

        Raises:
            WorkError: it cannot be decoded; names shard and key.
        """
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
        if array is None:
            raise WorkError("a sample cannot be decoded", where=self.where(number), hint="run vice-prep verify --deep")
        return array

    def _places(self, shard: str) -> list[dict[str, tuple[int, int]]]:
        if shard not in self._members:
            path = (self.folder / SHARD_FOLDER / shard).with_suffix(".idx")
            try:
                self._members[shard] = parse_index(path.read_text(encoding="ascii"))
            except (OSError, ValueError) as error:
                raise WorkError(f"index cannot be read ({error})", where=path, hint="run vice-prep verify") from None
        return self._members[shard]


def _read_manifest(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, schema=MANIFEST_SCHEMA)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the manifest cannot be read ({reason})", where=path, hint="run vice-prep verify") from None


def _read_at(tar, offset: int, size: int) -> bytes:
    tar.seek(offset)
    data = tar.read(size)
    if len(data) != size:
        raise OSError(f"ends {size - len(data)} bytes early")
    return data


def parse_index(text: str) -> list[dict[str, tuple[int, int]]]:
    """Parse a DALI index (`v1.2 N`, then per sample `ext offset size filename ...`).

    Returns:
        Per sample: member extension to (offset of its data in the tar, size), in bytes.

    Raises:
        ValueError: not such an index.
    """
    header, *lines = text.splitlines()
    version, count = header.split()
    if version != INDEX_VERSION or int(count) != len(lines):
        raise ValueError("not a DALI index of version 1.2 or not whole")
    samples = []
    for line in lines:
        words = line.split(" ")
        samples.append({words[i]: (int(words[i + 1]), int(words[i + 2])) for i in range(0, len(words) - 3, 4)})
    return samples

"""Reading shards: samples by number, straight from the tars by offset (through the DALI index that prep wrote)."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path

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
    parse_index,
    picture_member,
)
from vice.pipeline.dataset_record import read_dataset_record
from vice.pipeline.samples import Sample, decode, decode_sample
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.cached import CachedStorage
from vice.pipeline.storage.opening import open_storage


class Shards:
    """A complete OUT of `vice-prep shard`, opened for reading: a sequence of samples (`shards[n]`, `len`, `for`).

    Args:
        out: the OUT folder, on a disk or an object store (`s3://…`, `gs://…`).
        class_set: give labels in this set of classes of the spec (`27`), rather than as stored.
        cache: a folder on a disk of this machine to which whole tars are fetched on first use; shards may share it.
        cache_bytes: most that the cache holds: what was not used for longest goes; None is no limit.

    Raises:
        InputError: not a complete folder of shards of this format version, no such set of classes, or a cache that
            cannot be used.
    """

    def __init__(
        self,
        out: str | Path | Storage,
        *,
        class_set: str | None = None,
        cache: str | Path | None = None,
        cache_bytes: int | None = None,
    ):
        self.storage = open_storage(out)
        self.record = read_dataset_record(self.storage)
        if cache is not None:
            files, fingerprint = self.record.files, self.record.fingerprint
            self.storage = CachedStorage(
                self.storage, cache, files=files, fingerprint=fingerprint, max_bytes=cache_bytes
            )
        self.class_set = class_set
        self._class_table = None if class_set is None else self.spec.class_set(class_set)
        self._num_rows: int | None = None
        """Rows of the manifest that belong to an earlier version of the data."""
        self._members: dict[str, list[dict[str, tuple[int, int]]]] = {}

    def as_of(self, fingerprint: str) -> Shards:
        """These shards before inputs were appended.

        Args:
            fingerprint: of an earlier version of the data; with any other, they stay as they are.
        """
        record = self.record.as_of(fingerprint)
        if record is self.record:
            return self
        earlier = copy(self)
        # what was read already belongs to all of the samples
        for name in ("manifest", "keys", "_shards_of", "_index_in_shard", "sizes", "groups"):
            earlier.__dict__.pop(name, None)
        earlier.record, earlier._num_rows = record, record.num_samples
        return earlier

    def __len__(self) -> int:
        return self.record.num_samples

    def __getitem__(self, number: int) -> Sample:
        """Sample `number` (a negative one counts from the end), with all that is stored of it.

        Raises:
            IndexError: there are not so many.
            WorkError: a member cannot be read or decoded; names shard and key.
        """
        place = operator.index(number)
        if not -len(self) <= place < len(self):
            raise IndexError(f"no sample {place}, there are {len(self)}: {self.address}")
        return self.sample(place % len(self))

    def __iter__(self) -> Iterator[Sample]:
        return map(self.sample, range(len(self)))

    @property
    def address(self) -> str:
        """Where these shards lie, as given."""
        return self.storage.address

    @cached_property
    def manifest(self) -> pa.Table:
        """The whole manifest (some 400 bytes a sample), checked by its sha256; `manifest_batches` takes it in pieces.

        Raises:
            InputError: it cannot be read, was changed, or has another schema.
        """
        try:
            data = self.storage.read(MANIFEST_FILE)
            if not self._as_recorded(MANIFEST_FILE, data) and not (
                self._follow_append() and self._as_recorded(MANIFEST_FILE, data)
            ):
                raise self._bad_manifest("its sha256 is not the recorded one")
            table = pq.read_table(pa.BufferReader(data))
        except (OSError, pa.ArrowException) as error:
            raise self._bad_manifest(str(error).splitlines()[0]) from None
        if not table.schema.equals(MANIFEST_SCHEMA):
            raise self._bad_manifest("another schema")
        return table if self._num_rows is None else table.slice(0, self._num_rows)

    def manifest_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The manifest in pieces of some thousand rows, with all columns or the named ones.

        Raises:
            InputError: it cannot be read, or has another schema.
        """
        try:
            with self.storage.open(MANIFEST_FILE) as file:
                table = pq.ParquetFile(file)
                if not table.schema_arrow.equals(MANIFEST_SCHEMA):
                    raise self._bad_manifest("another schema")
                if self._num_rows is None and table.metadata.num_rows != len(self):
                    self._follow_append()
                start = 0
                for batch in table.iter_batches(batch_size=1 << 12, columns=columns):
                    rows = batch if self._num_rows is None else batch.slice(0, max(0, self._num_rows - start))
                    if rows.num_rows:
                        yield rows
                    start += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            raise self._bad_manifest(str(error).splitlines()[0]) from None

    def _follow_append(self) -> bool:
        """Stay at the version that was opened where inputs have been appended since; False where none were."""
        now = read_dataset_record(self.storage).as_of(self.fingerprint)
        if now.fingerprint != self.fingerprint or now.files == self.record.files:
            return False
        self.record, self._num_rows = now, now.num_samples
        return True

    def _as_recorded(self, name: str, data: bytes) -> bool:
        """Whether a file's bytes are those that `dataset.json` was written with."""
        return hashlib.sha256(data).hexdigest() == self.record.files[name]

    def _bad_manifest(self, reason: str) -> InputError:
        where = self.storage.where(MANIFEST_FILE)
        return InputError(f"the manifest cannot be read ({reason})", where=where, hint="run vice-prep verify")

    @cached_property
    def keys(self) -> list[str]:
        """Every sample's key."""
        return self.manifest["key"].to_pylist()

    @cached_property
    def _shards_of(self) -> tuple[list[str], np.ndarray]:
        """Names of the tars, and which one each sample lies in."""
        encoded = self.manifest["shard"].dictionary_encode().combine_chunks()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()

    @cached_property
    def _index_in_shard(self) -> np.ndarray:
        return self.manifest["index"].to_numpy()

    @property
    def spec(self) -> DatasetSpec:
        """The dataset's spec, as it was when sharded."""
        return self.record.dataset

    @property
    def classes(self) -> list[str]:
        """Names of the classes that labels are given in: the spec's, or those of the asked set."""
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
        raise InputError(f"no region layer '{layer}'", where=self.address, hint=f"stored: {have}; or use grid:N, pixel")

    def where(self, number: int) -> str:
        """Shard and key of a sample, for messages."""
        return f"{self.storage.where(f'{SHARD_FOLDER}/{self._tar_of(number)}')}, key {self.keys[number]}"

    def _tar_of(self, number: int) -> str:
        tars, tar_of = self._shards_of
        return tars[tar_of[number]]

    def read(self, number: int, members: list[str]) -> list[bytes]:
        """Bytes of some members (`jpg`, `slic20.png`) of one sample, checked against their sha256 in its json.

        Raises:
            WorkError: the shard cannot be read, lacks the member, or was changed; names shard and key.
        """
        tar = self._tar_of(number)
        try:
            places = self._places(tar)[self._index_in_shard[number]]
            *data, meta = self.storage.read_ranges(
                f"{SHARD_FOLDER}/{tar}", [places[member] for member in (*members, META_MEMBER)]
            )
        except KeyError as error:
            raise self._bad_sample(number, f"sample has no member {error}") from None
        except OSError as error:
            raise self._bad_sample(number, f"cannot read the shard ({error})") from None
        self._check(number, dict(zip(members, data, strict=True)), meta)
        return data

    def _check(self, number: int, data: dict[str, bytes], meta: bytes) -> None:
        """Hold a sample's members against its json, and its json against the manifest."""
        try:
            told = json.loads(meta)
            identity = (told["key"], told["width"], told["height"])
            hashes = {} if self._unhashed else told["sha256"]
        except (ValueError, KeyError, TypeError):
            raise self._bad_sample(number, f"its {META_MEMBER} is damaged") from None
        if identity != (self.keys[number], *self.sizes[number]):
            raise self._bad_sample(number, "the shard has another sample here than the manifest")
        # the json may be asked for itself: it has no hash
        for member in () if self._unhashed else data.keys() - {META_MEMBER}:
            if hashlib.sha256(data[member]).hexdigest() != hashes.get(member):
                raise self._bad_sample(number, f"its {member} was changed: its sha256 is not the recorded one")

    @property
    def _unhashed(self) -> bool:
        """Whether these shards are from before samples held their members' sha256."""
        return self.record.implementation["sample"] == "1"

    def _bad_sample(self, number: int, what: str) -> WorkError:
        return WorkError(what, where=self.where(number), hint="run vice-prep verify")

    def sample(self, number: int, layers: list[str] | None = None) -> Sample:
        """One sample as NumPy arrays, with all region layers or the named ones (`slic20`).

        Raises:
            WorkError: a member cannot be read or decoded; names shard and key.
        """
        layers = self.layers if layers is None else [self.layer_named(layer) for layer in layers]
        members = [picture_member(self.record.settings), META_MEMBER, DENSITY_MEMBER]
        members += [f"{layer}.png" for layer in layers]
        members += [LABELS_MEMBER] if self.manifest["has_labels"][number].as_py() else []
        data = dict(zip(members, self.read(number, members), strict=True))
        sample = decode_sample(self.keys[number], data, self.record, self.where(number))
        return sample if sample.labels is None else replace(sample, labels=self.in_class_set(sample.labels))

    def in_class_set(self, labels: np.ndarray) -> np.ndarray:
        """Labels as stored, uint16 [h, w], in the set of classes that was asked for."""
        return labels if self._class_table is None else self._class_table.table[labels]

    def decode(self, data: bytes, flags: int, number: int) -> np.ndarray:
        """Decode a member of a sample with OpenCV's `flags`.

        Raises:
            WorkError: it cannot be decoded; names shard and key.
        """
        return decode(data, flags, self.where(number))

    def _places(self, tar: str) -> list[dict[str, tuple[int, int]]]:
        if tar not in self._members:
            path = f"{SHARD_FOLDER}/{tar.removesuffix('.tar')}.idx"
            try:
                data = self.storage.read(path)
                if not self._as_recorded(path, data):
                    raise ValueError("its sha256 is not the recorded one")
                self._members[tar] = parse_index(data.decode("ascii"))
            except (OSError, ValueError) as error:
                where = self.storage.where(path)
                raise WorkError(f"index cannot be read ({error})", where=where, hint="run vice-prep verify") from None
        return self._members[tar]

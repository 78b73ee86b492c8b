"""Samples → a shard: tar, DALI index, record. A pure function of its samples, in parts that several processes make."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from vice.data_specs.fingerprint import canonical_json
from vice.data_specs.shard_format import INDEX_VERSION, MANIFEST_SCHEMA, SHARD_FOLDER, WORK_FOLDER, ShardRecord
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import PreparedSample
from vice.pipeline.prep.tables import manifest_table, parquet_bytes, rejected_table
from vice.pipeline.storage.base import Storage, hashed_file

ROWS_FOLDER = f"{WORK_FOLDER}/rows"

_REJECTED, _NOTES = b"rejected", b"notes"


class Part(NamedTuple):
    """Neighbouring samples of a shard; a shard is its parts in a row."""

    tar: np.ndarray
    """uint8: headers and data of the members, whole blocks (an array, since processes hand it on without a copy)."""
    index: list[list[tuple[str, int, int, str]]]
    """Per sample and member: extension, offset of the data in `tar`, size, file name."""
    rows: list[dict[str, Any]]
    """Rows of the manifest, without `shard` and `index`."""
    rejected: list[Rejection]
    notes: list[tuple[str, str]]
    """Source and note of samples that have one, see `StandardPicture`."""


class ShardFiles(NamedTuple):
    """A shard that is whole."""

    name: str
    files: dict[str, str]
    """sha256 of its files, by name relative to OUT."""
    num_samples: int
    num_rejected: int


def build_part(results: Sequence[PreparedSample | Rejection]) -> Part:
    """Put samples into tar format, with nothing in the headers but names and sizes.

    Args:
        results: a sample or a rejection for each input, in order.
    """
    samples = [result for result in results if isinstance(result, PreparedSample)]
    buffer = io.BytesIO()
    tar = tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closing would end it
    index = []
    for sample in samples:
        index.append([])
        for extension, data in sample.members.items():
            entry = tar_entry(f"{sample.key}.{extension}", len(data))
            index[-1].append((extension, buffer.tell() + tarfile.BLOCKSIZE, len(data), entry.name))
            tar.addfile(entry, io.BytesIO(data))
    rejected = [result for result in results if isinstance(result, Rejection)]
    rows = [sample.row for sample in samples]
    notes = [(sample.row["source"], note) for sample in samples for note in sample.notes]
    return Part(np.frombuffer(buffer.getvalue(), np.uint8), index, rows, rejected, notes)


def tar_entry(name: str, size: int) -> tarfile.TarInfo:
    """The header of a member: owner, time and mode are the same in every shard."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime, entry.uid, entry.gid = size, 0o644, 0, 0, 0
    return entry


def write_shard(storage: Storage, name: str, parts: Iterable[Part], settings_fingerprint: str) -> ShardFiles:
    """Write a shard's files; its record comes last and says that the others are whole.

    A shard of which every input was rejected has a record only: DALI refuses an index without samples, and a tar
    without members.

    Args:
        storage: OUT.
        name: the shard's name without suffix.
        parts: in order; taken one after the other, so that only one needs to be in memory.
        settings_fingerprint: of the settings that made them.
    """
    tar = write_tar(storage, name, parts)
    if tar.index:
        storage.write(f"{SHARD_FOLDER}/{name}.idx", tar.index)
    storage.write(f"{ROWS_FOLDER}/{name}.parquet", _rows_bytes(name, tar))
    record = tar.record(len(tar.rejected), settings_fingerprint)
    data = record_bytes(record)
    storage.write(f"{SHARD_FOLDER}/{name}.json", data)
    return _shard_files(name, record, data)


class WrittenTar(NamedTuple):
    """What the parts of a shard gave."""

    sha256: str
    """Of the tar; of nothing where there is no sample."""
    index: bytes
    """DALI index; empty where there is no sample."""
    rows: list[dict[str, Any]]
    """Rows of the manifest, without `shard` and `index`."""
    rejected: list[Rejection]
    notes: list[tuple[str, str]]
    """Source and note of samples that have one."""

    def record(self, num_rejected: int, settings_fingerprint: str) -> ShardRecord:
        """The record of the shard."""
        return ShardRecord(
            tar_sha256=self.sha256,
            index_sha256=hashlib.sha256(self.index).hexdigest(),
            num_samples=len(self.rows),
            num_rejected=num_rejected,
            settings_fingerprint=settings_fingerprint,
        )


def record_bytes(record: ShardRecord) -> bytes:
    """The file of a shard's record."""
    return canonical_json(record.model_dump(mode="json"))


def write_tar(storage: Storage, name: str, parts: Iterable[Part], *, expected: str | None = None) -> WrittenTar:
    """Write the tar of a shard, if it has a sample.

    Args:
        storage: OUT.
        name: the shard's name without suffix.
        parts: in order; taken one after the other.
        expected: sha256 without which the tar is not written.

    Raises:
        ValueError: the tar is not the expected one; what stood under its name is untouched.
    """
    rows: list[dict[str, Any]] = []
    rejected: list[Rejection] = []
    notes: list[tuple[str, str]] = []
    lines: list[str] = []
    tar_sha256 = hashlib.sha256().hexdigest()
    with ExitStack() as stack:
        file = None
        for part in parts:
            rejected += part.rejected
            if not part.index:
                continue
            if file is None:
                file = stack.enter_context(hashed_file(storage, f"{SHARD_FOLDER}/{name}.tar"))
            lines += [_index_line(sample, file.tell()) for sample in part.index]
            rows += part.rows
            notes += part.notes
            file.write(part.tar)
        if file is not None:
            file.write(bytes(end_of_tar(file.tell())))
            tar_sha256 = file.sha256
            if expected not in (None, tar_sha256):
                raise ValueError(f"{name}.tar is not the expected one")
    index = f"{INDEX_VERSION} {len(lines)}\n{''.join(lines)}".encode("ascii") if lines else b""
    return WrittenTar(tar_sha256, index, rows, rejected, notes)


def _index_line(sample: list[tuple[str, int, int, str]], start: int) -> str:
    return " ".join(f"{extension} {start + offset} {size} {name}" for extension, offset, size, name in sample) + "\n"


def end_of_tar(size: int) -> int:
    """Zero bytes at the end of a tar: two blocks, and up to a whole record."""
    end = 2 * tarfile.BLOCKSIZE
    return end + -(size + end) % tarfile.RECORDSIZE


def check_shard(storage: Storage, name: str, settings_fingerprint: str) -> ShardFiles | None:
    """What an earlier run made of a shard, if that is whole to the last byte and of these settings; else None."""
    try:
        data = storage.read(f"{SHARD_FOLDER}/{name}.json")
        record = ShardRecord.model_validate_json(data)
        if record.settings_fingerprint != settings_fingerprint or not storage.exists(f"{ROWS_FOLDER}/{name}.parquet"):
            return None
        if record.num_samples:
            whole = (record.tar_sha256, record.index_sha256)
            if whole != tuple(storage.sha256(f"{SHARD_FOLDER}/{name}.{suffix}") for suffix in ("tar", "idx")):
                return None
    except (FileNotFoundError, ValidationError):
        return None
    return _shard_files(name, record, data)


def _shard_files(name: str, record: ShardRecord, data: bytes) -> ShardFiles:
    files = {"json": hashlib.sha256(data).hexdigest()}
    if record.num_samples:
        files |= {"tar": record.tar_sha256, "idx": record.index_sha256}
    named = {f"{SHARD_FOLDER}/{name}.{suffix}": sha256 for suffix, sha256 in files.items()}
    return ShardFiles(name, named, record.num_samples, record.num_rejected)


def _rows_bytes(name: str, tar: WrittenTar) -> bytes:
    """Manifest rows as Parquet, with rejections and notes, kept in OUT until the whole job is done."""
    placed = [row | {"shard": f"{name}.tar", "index": number} for number, row in enumerate(tar.rows)]
    rejected = canonical_json([rejection._asdict() for rejection in tar.rejected])
    metadata = {_REJECTED: rejected, _NOTES: canonical_json(tar.notes)}
    return parquet_bytes(manifest_table(placed).replace_schema_metadata(metadata))


class ShardRows(NamedTuple):
    """What a shard that is whole adds to OUT's tables."""

    samples: pa.Table
    rejected: pa.Table
    notes: list[tuple[str, str]]
    """Source and note."""


def read_rows(storage: Storage, name: str) -> ShardRows:
    """Manifest rows, rejections and notes of a shard that is whole."""
    table = pq.read_table(io.BytesIO(storage.read(f"{ROWS_FOLDER}/{name}.parquet")))
    rejected = rejected_table(json.loads(table.schema.metadata[_REJECTED]))
    notes = json.loads(table.schema.metadata.get(_NOTES, b"[]"))
    return ShardRows(table.cast(MANIFEST_SCHEMA), rejected, notes)

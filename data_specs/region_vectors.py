"""Region vectors, format version 1: one vector per region of every sample of shards, made once by an encoder.

OUT/vectors.json                   what they were made from, totals, sha256 of every other file; written last = complete
OUT/vectors/SPLIT-000000.parquet   one file per shard, a row per region, a row group per sample in the shard's order
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint
from vice.data_specs.results import EncoderRef
from vice.data_specs.validation import StrictModel, parse

VECTORS_FORMAT, VECTORS_VERSION = "vice-region-vectors", 1
VECTORS_FILE, VECTORS_FOLDER, STARTED_FILE = "vectors.json", "vectors", "started.json"
VECTOR_COLUMN = "vector"

MAX_SAMPLE_BYTES = 1 << 30
"""Most bytes of one sample's vectors: they are one page of a Parquet file, whose size is a 32-bit number."""

PARQUET_OPTIONS: dict[str, Any] = {
    "version": "2.6",
    "compression": "NONE",
    "use_dictionary": ["key"],
    "write_statistics": False,
    "data_page_size": 2 * MAX_SAMPLE_BYTES - 1,
}
"""Vectors are stored plainly and each sample's in one page, so that they can be read by offset (`vector_layout`)."""


class ShardsRef(StrictModel):
    """The shards whose regions have vectors."""

    dataset: str
    split: str
    num_samples: int
    version: int
    """Of the shard format."""
    fingerprint: str


class VectorsSource(StrictModel):
    """Everything that decides the bytes of region vectors; what a resumed job is compared with."""

    format: Literal["vice-region-vectors"] = VECTORS_FORMAT
    version: int = VECTORS_VERSION
    encoder: EncoderRef
    shards: ShardsRef
    layer: str
    """As `slic:20`."""
    settings: dict[str, Any]
    """How pictures were embedded: size, tiles, scales, mirrored."""
    implementation: dict[str, str]
    """Versions of the libraries that make bytes."""
    dim: int
    """Values of a vector (T)."""


class VectorsPart(StrictModel):
    """The vectors of one shard."""

    file: str
    """Path relative to OUT."""
    sha256: str
    num_bytes: int
    num_samples: int
    num_regions: int


class VectorsRecord(VectorsSource):
    """`vectors.json`, written last: the whole OUT is complete."""

    num_samples: int
    num_regions: int
    parts: list[VectorsPart]
    """In the order of the samples."""
    fingerprint: str
    """sha256 of this record without this field: names the vectors exactly."""

    @classmethod
    def sealed(cls, source: VectorsSource, parts: list[VectorsPart]) -> VectorsRecord:
        """The record of complete parts, with its fingerprint."""
        totals = {name: sum(getattr(part, name) for part in parts) for name in ("num_samples", "num_regions")}
        draft = cls(**source.model_dump(), **totals, parts=parts, fingerprint="")
        return draft.model_copy(update={"fingerprint": _fingerprint_of(draft.model_dump(mode="json"))})


def _fingerprint_of(fields: dict[str, Any]) -> str:
    """What names a record's content: all of its fields but the fingerprint itself."""
    return fingerprint({name: value for name, value in fields.items() if name != "fingerprint"})


class VectorLayout(NamedTuple):
    """Where one file holds each sample's vectors: plain little-endian float16, region after region."""

    offsets: np.ndarray
    """int64 [samples], bytes from the beginning of the file."""
    num_regions: np.ndarray
    """int64 [samples]."""


def vectors_schema(dim: int) -> pa.Schema:
    """Columns of a file: key and region id; the vector; area, and centre as mean column and row, in stored pixels."""
    values = pa.list_(pa.field("element", pa.float16(), nullable=False), dim)
    columns = {
        "key": pa.string(),
        "region": pa.uint16(),
        VECTOR_COLUMN: values,
        "area": pa.uint32(),
        "x": pa.float32(),
        "y": pa.float32(),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def vector_layout(file: pq.ParquetFile, dim: int) -> VectorLayout:
    """Where a file's vectors lie: a plain page ends with its values, and each sample's vectors are one page.

    Args:
        file: of `vectors_schema(dim)`, written with PARQUET_OPTIONS.
        dim: values of a vector.

    Raises:
        ValueError: the file has other columns, or its vectors are compressed or encoded.
    """
    if not file.schema_arrow.equals(vectors_schema(dim)):
        raise ValueError(f"its columns are not those of region vectors of {dim} values")
    place = vectors_schema(dim).get_field_index(VECTOR_COLUMN)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    counts = np.array([group.num_rows for group in groups], np.int64)
    columns = [group.column(place) for group in groups]
    for column in columns:
        if column.compression != "UNCOMPRESSED" or not set(column.encodings) <= {"PLAIN", "RLE"}:
            raise ValueError("its vectors are not stored as plain numbers")
    ends = np.array([column.data_page_offset + column.total_compressed_size for column in columns], np.int64)
    return VectorLayout(ends - 2 * dim * counts, counts)


def parse_vectors_record(data: bytes, where: object) -> VectorsRecord:
    """Parse the bytes of a `vectors.json`.

    Args:
        data: the file's bytes.
        where: its address, for messages.

    Raises:
        InputError: not ours, of another format version, or changed since it was written.
    """
    try:
        fields = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError("not readable as JSON", where=where, hint="make the vectors again in a new folder") from None
    if not isinstance(fields, dict) or fields.get("format") != VECTORS_FORMAT:
        hint = "make them with: vice-eval embed ENCODER SHARDS OUT --regions LAYER"
        raise InputError("not a record of region vectors", where=where, hint=hint)
    if fields.get("version") != VECTORS_VERSION:
        raise InputError(
            f"region vectors of version {fields.get('version')!r}, this program reads version {VECTORS_VERSION}",
            where=where,
            hint="make them again in a new folder, or install the version of vice-dense that wrote them",
        )
    record = parse(VectorsRecord, fields, where=where)
    # of the fields as they were written: a later program may know more of them
    if record.fingerprint != _fingerprint_of(fields):
        hint = "make the vectors again in a new folder"
        raise InputError("the record was changed after it was written", where=where, hint=hint)
    return record

"""Listings of tars, kept in OUT until it is complete: a run that is resumed lists only tars that have changed."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vice.data_specs.shard_format import WORK_FOLDER
from vice.pipeline.prep.tars import TarListing
from vice.pipeline.storage.base import Storage, Version

_FILE = f"{WORK_FOLDER}/tars.parquet"
_KEY = b"selection"
_ROWS = 64
"""Tars of a row group."""

_SCHEMA = pa.schema(
    [
        ("tar", pa.binary()),
        ("size", pa.int64()),
        ("tag", pa.string()),
        ("paths", pa.list_(pa.binary())),
        ("places", pa.list_(pa.int64())),
        ("problems", pa.map_(pa.binary(), pa.binary())),
        ("has_picture", pa.bool_()),
        ("header_size", pa.int64()),
    ]
)


class KeptTars:
    """The listings that an earlier run kept, and those to be kept.

    Args:
        out: the folder of shards, which need not exist yet.
    """

    def __init__(self, out: Storage):
        self._out = out
        self._kept: dict[bytes, tuple[pa.RecordBatch, int]] = {}
        self._key = b""
        self._rows: list[dict[str, Any]] = []
        self._spool = io.BytesIO()
        self._writer: pq.ParquetWriter | None = None

    def load(self, key: str) -> None:
        """Read what an earlier run kept.

        Args:
            key: of the source and of what decides which members are inputs; listings of another key do not count.
        """
        self._key = key.encode()
        try:
            file = pq.ParquetFile(io.BytesIO(self._out.read(_FILE)))
            schema = file.schema_arrow
            if (schema.names, (schema.metadata or {}).get(_KEY)) != (_SCHEMA.names, self._key):
                return
            for batch in file.iter_batches(_ROWS):
                self._kept |= {tar: (batch, row) for row, tar in enumerate(batch["tar"].to_pylist())}
        except (OSError, pa.ArrowException):
            self._kept = {}

    def get(self, tar: str, version: Version) -> TarListing | None:
        """The kept listing of a tar, if that has not changed since."""
        batch, row = self._kept.pop(os.fsencode(tar), (None, 0))
        if batch is None or (batch["size"][row].as_py(), batch["tag"][row].as_py()) != version:
            return None
        return TarListing(
            batch["paths"][row].values.cast(pa.large_binary()),
            batch["places"][row].values.to_numpy().reshape(-1, 4),
            {os.fsdecode(path): os.fsdecode(problem) for path, problem in batch["problems"][row].as_py()},
            batch["has_picture"][row].as_py(),
            batch["header_size"][row].as_py(),
        )

    def add(self, tar: str, version: Version, listing: TarListing) -> None:
        """A listing to be kept."""
        row = {"tar": os.fsencode(tar), "size": version.size, "tag": version.tag, "paths": listing.paths}
        row |= {
            "places": listing.places.ravel(),
            "has_picture": listing.has_picture,
            "header_size": listing.header_size,
        }
        problems = [(os.fsencode(path), os.fsencode(problem)) for path, problem in listing.problems.items()]
        self._rows.append(row | {"problems": problems})
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            schema = _SCHEMA.with_metadata({_KEY: self._key})
            self._writer = pq.ParquetWriter(self._spool, schema, compression="zstd")
        self._writer.write_table(_table(self._rows))
        self._rows = []

    def save(self) -> None:
        """Keep in OUT what was added; called by the only writer."""
        if self._rows:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            self._out.write(_FILE, self._spool.getbuffer())
            self._writer, self._spool = None, io.BytesIO()


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {field.name: [row[field.name] for row in rows] for field in _SCHEMA}
    arrays = {name: pa.array(values, _SCHEMA.field(name).type) for name, values in columns.items() if name != "paths"}
    lengths = np.cumsum([0, *(len(paths) for paths in columns["paths"])])
    paths = pa.concat_arrays(columns["paths"]).cast(pa.binary())
    arrays["paths"] = pa.ListArray.from_arrays(pa.array(lengths, pa.int32()), paths)
    return pa.table([arrays[field.name] for field in _SCHEMA], _SCHEMA)

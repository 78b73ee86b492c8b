"""Rows as Arrow tables and Parquet bytes: equal rows, equal bytes."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from vice.data_specs.shard_format import MANIFEST_SCHEMA, REJECTED_SCHEMA
from vice.pipeline.prep.rejection import CODE_OF_STAGE

_ROW_GROUP = 1 << 12
"""Rows of a row group: a reader may take a manifest of any size in pieces of this."""

_MAPS = tuple(field.name for field in MANIFEST_SCHEMA if pa.types.is_map(field.type))


def manifest_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of samples, with dictionaries for the maps, as a table of the manifest's schema."""
    plain = [row | {name: list(row[name].items()) for name in _MAPS} for row in rows]
    return pa.Table.from_pylist(plain, schema=MANIFEST_SCHEMA)


def rejected_table(rows: list[dict[str, str]]) -> pa.Table:
    """Rejections as a table of their schema; those without a code get that of their stage."""
    coded = [row if "code" in row else row | {"code": CODE_OF_STAGE[row["stage"]]} for row in rows]
    return pa.Table.from_pylist(coded, schema=REJECTED_SCHEMA)


def read_rejected(file: IO[bytes]) -> pa.Table:
    """A `rejected.parquet`, also one without codes."""
    table = pq.read_table(file)
    if "code" not in table.column_names:
        codes = pa.array([CODE_OF_STAGE[stage] for stage in table["stage"].to_pylist()], pa.string())
        table = table.append_column(REJECTED_SCHEMA.field("code"), codes)
    return table.cast(REJECTED_SCHEMA)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    buffer = io.BytesIO()
    write_parquet(buffer, [table], table.schema)
    return buffer.getvalue()


def write_parquet(file: IO[bytes], tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write tables one after the other as one Parquet file, in row groups of equal size.

    Args:
        file: where to.
        tables: taken one by one; about a row group of them is in memory.
        schema: of all of them.
    """
    with pq.ParquetWriter(file, schema, compression="zstd", version="2.6") as writer:
        waiting, count = [], 0
        for table in tables:
            waiting.append(table)
            count += table.num_rows
            if count >= _ROW_GROUP:
                joined = pa.concat_tables(waiting)
                full = count - count % _ROW_GROUP
                writer.write_table(joined.slice(0, full), row_group_size=_ROW_GROUP)
                waiting, count = [joined.slice(full)], count - full
        if count:
            writer.write_table(pa.concat_tables(waiting), row_group_size=_ROW_GROUP)


def commonest_reasons(rejected: pa.Table, limit: int = 5) -> list[str]:
    """The commonest codes of rejection, each with its commonest reason: `12 × decode: no picture in a known format`.

    Where the inputs of a code have several reasons, their number follows: `12 × decode: … (and 3 other reasons)`.
    """
    by_code: dict[str, Counter[str]] = defaultdict(Counter)
    counted = rejected.group_by(["code", "reason"]).aggregate([([], "count_all")])
    for row in counted.to_pylist():
        by_code[row["code"]][row["reason"]] += row["count_all"]
    groups = sorted(by_code.items(), key=lambda group: (-group[1].total(), group[0]))
    return [f"{reasons.total()} × {code}: {_commonest(reasons)}" for code, reasons in groups[:limit]]


def _commonest(reasons: Counter[str]) -> str:
    reason = min(reasons, key=lambda one: (-reasons[one], one))
    others = len(reasons) - 1
    return f"{reason} (and {others} other reason{'s' * (others > 1)})" if others else reason

"""What a complete OUT holds, as a few lines or as JSON; from its record and tables, without opening a tar."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vice.data_specs.shard_format import REJECTED_FILE
from vice.pipeline.prep.totals import commonest_reasons
from vice.pipeline.shards import Shards

_NUM_REASONS = 5


def facts(out: str | Path) -> dict[str, Any]:
    """Counts, bytes, sizes, regions and reasons of rejection of OUT.

    Raises:
        InputError: OUT is not a complete folder of shards.
    """
    return facts_of(Shards(out))


def facts_of(shards: Shards) -> dict[str, Any]:
    """`facts` of shards that are open already; Arrow adds up their columns, so a million samples take seconds."""
    record, manifest = shards.record, shards.manifest
    member_bytes = {member: total["sum"] for member, total in map_totals(manifest["member_bytes"]).items()}
    regions = map_totals(manifest["num_regions"])
    pixels = pc.sum(pc.multiply(manifest["width"].cast(pa.int64()), manifest["height"].cast(pa.int64()))).as_py()
    layers = {str(layer): regions[layer.name] for layer in record.settings.regions}
    return {
        "fingerprint": record.fingerprint,
        "dataset": record.dataset.name,
        "split": record.settings.split,
        "num_inputs": record.num_inputs,
        "num_samples": record.num_samples,
        "num_rejected": record.num_rejected,
        "num_shards": record.num_shards,
        "member_bytes": member_bytes,
        "mean_size": [pc.mean(manifest[side]).as_py() for side in ("width", "height")],
        "mean_regions": {layer: total["sum"] / len(manifest) for layer, total in layers.items()},
        "min_regions": {layer: total["min"] for layer, total in layers.items()},
        "max_regions": {layer: total["max"] for layer, total in layers.items()},
        "mean_region_size": {layer: math.sqrt(pixels / total["sum"]) for layer, total in layers.items()},
        "has_labels": pc.all(manifest["has_labels"]).as_py(),
        "commonest_rejections": commonest_reasons(_rejected(shards), limit=_NUM_REASONS),
        "settings": record.settings.model_dump(mode="json"),
        "implementation": record.implementation,
    }


def map_totals(column: pa.ChunkedArray) -> dict[str, dict[str, int]]:
    """Sum, min and max per key of a column of maps from text to integers, in the order in which keys occur."""
    parts = [_map_chunk_totals(chunk) for chunk in column.chunks if len(chunk)]
    grouped = _grouped(pa.concat_tables(parts), {"sum": "sum", "min": "min", "max": "max"})
    return {row.pop("key"): row for row in grouped.to_pylist()}


def _map_chunk_totals(chunk: pa.MapArray) -> pa.Table:
    # a chunk at a time: its entries need several times the memory of its totals
    entry = pa.struct([("key", chunk.type.key_type), ("value", chunk.type.item_type)])
    entries = pc.list_flatten(chunk.cast(pa.list_(entry)))
    keys = pc.struct_field(entries, "key").dictionary_encode()
    values = pc.struct_field(entries, "value").cast(pa.int64())
    table = pa.table({"key": keys, "sum": values, "min": values, "max": values})
    totals = _grouped(table, {"sum": "sum", "min": "min", "max": "max"})
    return totals.set_column(0, "key", totals["key"].cast(pa.string()))


def _grouped(table: pa.Table, how: dict[str, str]) -> pa.Table:
    grouped = table.group_by("key", use_threads=False).aggregate(list(how.items()))
    return grouped.select(["key", *(f"{column}_{kind}" for column, kind in how.items())]).rename_columns(["key", *how])


def _rejected(shards: Shards) -> Iterator[dict[str, Any]]:
    """Rows of the rejected list, a few at a time."""
    table = pq.read_table(shards.folder / REJECTED_FILE, columns=["stage", "reason"])
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()


def facts_json(out: str | Path) -> str:
    """`facts` as indented JSON."""
    return json.dumps(facts(out), indent=1, ensure_ascii=False)


def summary(out: str | Path) -> str:
    """`facts` in a few aligned lines, with what to run next."""
    told = facts(out)
    return "\n".join(f"{name:<11}{line}".rstrip() for name, line in _sections(told, shlex.quote(str(out))))


def _sections(told: dict[str, Any], out: str) -> Iterator[tuple[str, str]]:
    """Lines of the summary, each with the name before it; only the first line of a section has one."""
    shards = "1 shard" if told["num_shards"] == 1 else f"{told['num_shards']:,} shards"
    yield "samples", f"{told['num_samples']:,} of {told['num_inputs']:,} inputs in {shards}"
    yield "", f"dataset {told['dataset']}, split {told['split']}, labels: {'yes' if told['has_labels'] else 'no'}"
    width, height = told["mean_size"]
    yield "pictures", f"{width:,.0f} × {height:,.0f} px on average"
    yield from _table("regions", list(_regions(told)), side="<")
    yield from _table("bytes", list(_bytes(told["member_bytes"])))
    reasons = [reason.partition(" × ") for reason in told["commonest_rejections"]]
    if reasons:
        counted = [(f"{told['num_rejected']:,}", "inputs" if told["num_rejected"] > 1 else "input")]
        yield from _table("rejected", counted + [(f"{int(count):,}", f"× {reason}") for count, _, reason in reasons])
    yield "next", f"vice-prep verify {out}"
    yield "", f"vice-prep preview {out} --output preview.html"
    yield "", f"vice-train launch PRESET --shards {out} --run-dir runs/NAME   (vice-train presets lists them)"


def _regions(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for layer, mean in told["mean_regions"].items():
        least, most = told["min_regions"][layer], told["max_regions"][layer]
        side = told["mean_region_size"][layer]
        yield layer, f"{mean:,.0f} per picture ({least:,} to {most:,}), {side:.1f} px mean side"


def _bytes(member_bytes: dict[str, int]) -> Iterator[tuple[str, str]]:
    total = sum(member_bytes.values())
    yield size_text(total), "in all"
    for member, size in member_bytes.items():
        yield size_text(size), f"{member} ({size / total:.0%})"


def _table(name: str, rows: list[tuple[str, str]], side: str = ">") -> Iterator[tuple[str, str]]:
    """Rows of two columns; `side` aligns the first: `>` for numbers, `<` for names."""
    width = max(len(first) for first, _ in rows)
    for i, (first, second) in enumerate(rows):
        yield name if i == 0 else "", f"{first:{side}{width}}  {second}"


def size_text(size: float) -> str:
    """Bytes as a person reads them: `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"

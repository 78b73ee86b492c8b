"""What a complete OUT holds, as a few lines or as JSON; from its record and tables, without opening a tar."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vice.data_specs.command_line import command
from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import REJECTED_FILE
from vice.pipeline.prep.tables import commonest_reasons, read_rejected
from vice.pipeline.shards import Shards

_NUM_REASONS = 5


def facts(out: str | Path) -> dict[str, Any]:
    """Counts, bytes, sizes, regions and reasons of rejection of OUT.

    Raises:
        InputError: OUT is not a complete folder of shards.
    """
    return facts_of(Shards(out))


_COLUMNS = ("width", "height", "num_regions", "member_bytes", "has_labels")


def facts_of(shards: Shards) -> dict[str, Any]:
    """`facts` of shards that are open already; the manifest is taken in pieces, which Arrow adds up."""
    record = shards.record
    rows = [_batch_totals(batch) for batch in shards.manifest_batches(_COLUMNS)]
    width, height, pixels = (sum(row[name] for row in rows) for name in ("width", "height", "pixels"))
    regions = map_totals([row["num_regions"] for row in rows])
    member_bytes = map_totals([row["member_bytes"] for row in rows])
    layers = {str(layer): regions[layer.name] for layer in record.settings.regions}
    return {
        "fingerprint": record.fingerprint,
        "dataset": record.dataset.name,
        "split": record.settings.split,
        "num_inputs": record.num_inputs,
        "num_samples": record.num_samples,
        "num_rejected": record.num_rejected,
        "num_shards": record.num_shards,
        "member_bytes": {member: total["sum"] for member, total in member_bytes.items()},
        "mean_size": [width / len(shards), height / len(shards)],
        "mean_regions": {layer: total["sum"] / len(shards) for layer, total in layers.items()},
        "min_regions": {layer: total["min"] for layer, total in layers.items()},
        "max_regions": {layer: total["max"] for layer, total in layers.items()},
        "mean_region_size": {layer: math.sqrt(pixels / total["sum"]) for layer, total in layers.items()},
        "has_labels": all(row["has_labels"] for row in rows),
        "commonest_rejections": commonest_reasons(_rejected(shards), limit=_NUM_REASONS),
        "notes": {note: counted.model_dump() for note, counted in record.notes.items()},
        "settings": record.settings.model_dump(mode="json"),
        "implementation": record.implementation,
    }


def _batch_totals(batch: pa.RecordBatch) -> dict[str, Any]:
    """Sums of some rows of the manifest."""
    width, height = (batch[side].cast(pa.int64()) for side in ("width", "height"))
    return {
        "width": pc.sum(width).as_py(),
        "height": pc.sum(height).as_py(),
        "pixels": pc.sum(pc.multiply(width, height)).as_py(),
        "has_labels": pc.all(batch["has_labels"]).as_py(),
        "num_regions": entry_totals(batch["num_regions"]),
        "member_bytes": entry_totals(batch["member_bytes"]),
    }


def map_totals(parts: list[pa.Table]) -> dict[str, dict[str, int]]:
    """Sum, min and max per key from those of parts, in the order in which keys occur."""
    grouped = _grouped(pa.concat_tables(parts), {"sum": "sum", "min": "min", "max": "max"})
    return {row.pop("key"): row for row in grouped.to_pylist()}


def entry_totals(chunk: pa.MapArray) -> pa.Table:
    """Sum, min and max per key of a column of maps from text to integers."""
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


def _rejected(shards: Shards) -> pa.Table:
    with shards.storage.open(REJECTED_FILE) as file:
        return read_rejected(file)


def refuse_rejections(out: str | Path, max_rejected: float) -> None:
    """Refuse an OUT of which too many inputs were rejected; it stays complete.

    Args:
        out: a complete folder of shards.
        max_rejected: largest share of the inputs that may be rejected, 0 to 1.

    Raises:
        WorkError: it is larger; names the share, the most frequent reasons and the list of rejections.
    """
    shards = Shards(out)
    record = shards.record
    if record.num_rejected <= max_rejected * record.num_inputs:
        return
    share = f"{record.num_rejected:,} of {record.num_inputs:,} inputs ({record.num_rejected / record.num_inputs:.2%})"
    reasons = "; ".join(commonest_reasons(_rejected(shards), limit=_NUM_REASONS))
    what = f"{share} were rejected, more than --max-rejected {max_rejected:g} ({reasons})"
    hint = "the shards are complete; mend the inputs and use --retry-rejected, or allow a larger share"
    raise WorkError(what, where=shards.storage.where(REJECTED_FILE), hint=hint)


def facts_json(out: str | Path) -> str:
    """`facts` as indented JSON."""
    return json.dumps(facts(out), indent=1, ensure_ascii=False)


def summary(out: str | Path) -> str:
    """`facts` in a few aligned lines, with what to run next."""
    told = facts(out)
    return "\n".join(f"{name:<11}{line}".rstrip() for name, line in _sections(told, str(out)))


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
    notes = sorted(told["notes"].items(), key=lambda item: -item[1]["num_inputs"])
    if notes:
        yield from _table("noted", [(f"{note['num_inputs']:,}", f"× {text}: {_named(note)}") for text, note in notes])
    yield "next", command("vice-prep", "verify", out)
    yield "", command("vice-prep", "preview", out, "--output", "preview.html")
    launch = command("vice-train", "launch", "--shards", out, "--run-dir", "runs/NAME")
    yield "", f"{launch}   (vice-train presets lists other recipes)"


def _named(note: dict[str, Any]) -> str:
    """The files of a note, as far as it names them."""
    return ", ".join(note["sources"]) + (", …" if note["num_inputs"] > len(note["sources"]) else "")


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

"""What a complete OUT holds, as a few lines or as JSON; from its record and tables, without opening a tar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vice.data_specs.shard_format import REJECTED_FILE
from vice.pipeline.prep.tables import commonest_reasons
from vice.pipeline.shards import Shards


def facts(out: Path) -> dict[str, Any]:
    """Counts, bytes, sizes, regions and reasons of rejection of OUT.

    Raises:
        InputError: OUT is not a complete folder of shards.
    """
    shards = Shards(out)
    record = shards.record
    rows = shards.manifest.to_pylist()
    member_bytes: dict[str, int] = {}
    for row in rows:
        for member, size in row["member_bytes"]:
            member_bytes[member] = member_bytes.get(member, 0) + size
    regions = {
        str(layer): sum(dict(row["num_regions"])[layer.name] for row in rows) / len(rows)
        for layer in record.settings.regions
    }
    return {
        "fingerprint": record.fingerprint,
        "dataset": record.dataset.name,
        "split": record.settings.split,
        "num_inputs": record.num_inputs,
        "num_samples": record.num_samples,
        "num_rejected": record.num_rejected,
        "num_shards": record.num_shards,
        "member_bytes": member_bytes,
        "mean_size": [float(side) for side in shards.sizes.mean(axis=0)],
        "mean_regions": regions,
        "has_labels": shards.has_labels,
        "commonest_rejections": commonest_reasons(_rejected(shards)),
        "settings": record.settings.model_dump(mode="json"),
        "implementation": record.implementation,
    }


def facts_json(out: Path) -> str:
    """`facts` as indented JSON."""
    return json.dumps(facts(out), indent=1, ensure_ascii=False)


def summary(out: Path) -> str:
    """`facts` in a few lines, with what to run next."""
    told = facts(out)
    megabytes = sum(told["member_bytes"].values()) / 1e6
    per_member = ", ".join(f"{member} {size / 1e6:.1f}" for member, size in told["member_bytes"].items())
    width, height = told["mean_size"]
    lines = [
        f"samples    {told['num_samples']} of {told['num_inputs']} inputs in {told['num_shards']} shards"
        f" (dataset {told['dataset']}, split {told['split']})",
        f"bytes      {megabytes:.1f} MB ({per_member})",
        f"pictures   {width:.0f} × {height:.0f} px on average, labels: {'yes' if told['has_labels'] else 'no'}",
        *(f"regions    {layer}: {number:.0f} per picture" for layer, number in told["mean_regions"].items()),
        *(f"rejected   {reason}" for reason in told["commonest_rejections"]),
        f"next       vice-prep preview {out} --output preview.png",
    ]
    return "\n".join(lines)


def _rejected(shards: Shards) -> pa.Table:
    with shards.storage.open(REJECTED_FILE) as file:
        return pq.read_table(file)

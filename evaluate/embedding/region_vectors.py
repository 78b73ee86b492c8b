"""Shards to region vectors: one Parquet file per shard, each a function of (shard, encoder, settings) alone.

`started.json` records at the beginning what the vectors are made from; `vectors.json` takes its place at the end.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float16, Float32, Integer, UInt8, UInt16

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.fingerprint import difference, sha256_file
from vice.data_specs.region_vectors import (
    MAX_SAMPLE_BYTES,
    PARQUET_OPTIONS,
    STARTED_FILE,
    VECTORS_FILE,
    VECTORS_FOLDER,
    ShardsRef,
    VectorsPart,
    VectorsRecord,
    VectorsSource,
    parse_vectors_record,
    vectors_schema,
)
from vice.data_specs.regions import grid_cell
from vice.data_specs.results import EncoderRef
from vice.evaluate.embedding.out_folder import check_is_new, locked, read_json, whole_file, write_json
from vice.evaluate.embedding.region_means import region_means
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.progress import track
from vice.evaluate.scenes import in_batches, resized
from vice.pipeline.loader.shard_list import list_shards
from vice.pipeline.shards import Shards

IMPLEMENTATION = "2"
"""Of pooling and writing; raised when the same input gives other bytes."""
LIBRARIES = ("numpy", "opencv-contrib-python", "pyarrow", "scipy", "timm", "torch")
"""Whose versions decide bytes."""


class Outcome(NamedTuple):
    """What a run did."""

    record: VectorsRecord
    num_written: int
    """Files written in this run; those of an earlier one are not counted."""


class _Part(NamedTuple):
    """One shard's file and samples."""

    file: str
    """Path relative to OUT."""
    numbers: range
    """Its samples in the shards."""


class _Pictured(NamedTuple):
    """One sample, its picture at the size that the encoder gets."""

    number: int
    picture: UInt8[np.ndarray, "eh ew 3"]
    regions: UInt16[np.ndarray, "h w"]


def stored_layer(shards: Shards, layer: str) -> str:
    """The full name (`slic:20`) of a stored layer given as `slic:20` or `slic20`.

    Raises:
        InputError: no such layer is stored.
    """
    if grid_cell(layer) is not None:
        stored = ", ".join(str(one) for one in shards.record.settings.regions)
        raise InputError("only stored layers have region vectors", where=f"--regions {layer}", hint=f"stored: {stored}")
    name = shards.layer_named(layer)
    return next(str(stored) for stored in shards.record.settings.regions if stored.name == name)


def vectors_source(
    ref: EncoderRef, shards: Shards, layer: str, *, short_side: int | None, settings: dict[str, Any]
) -> VectorsSource:
    """What region vectors are made from.

    Args:
        ref: the encoder, with its dimension.
        shards: whose regions get vectors.
        layer: of `stored_layer`.
        short_side: pictures are brought to this size before they are embedded; None leaves them as stored.
        settings: whatever else decides how pictures are embedded.
    """
    return VectorsSource(
        encoder=ref,
        shards=ShardsRef(
            dataset=shards.spec.name,
            split=shards.record.settings.split,
            num_samples=len(shards),
            version=shards.record.version,
            fingerprint=shards.fingerprint,
        ),
        layer=layer,
        # as it is read back from the record
        settings=json.loads(json.dumps({"short_side": short_side, **settings})),
        implementation={"region vectors": IMPLEMENTATION, **{name: metadata.version(name) for name in LIBRARIES}},
        dim=ref.dim,
    )


def embed_regions(encoder: Encoder, shards: Shards, out: Path, source: VectorsSource) -> Outcome:
    """Write the region vectors of every shard that has none yet, then the record.

    Args:
        encoder: of any origin and stride; its maps are pooled as they are, vectors are not brought to unit length.
        shards: whose regions get vectors.
        out: a folder on a disk; made where it is missing.
        source: what the vectors are made from; a folder made from anything else is refused.

    Raises:
        InputError: `out` was made from something else, holds other files, or is being written by another process.
        WorkError: a sample cannot be read, a vector does not fit into float16, or a file cannot be written.
    """
    with locked(out):
        done = _resumed(out, source)
        parts = [part for part in _parts(shards) if not (out / part.file).is_file()]
        if done is not None and not parts:
            return Outcome(done, 0)
        numbers = [number for part in parts for number in part.numbers]
        try:
            with closing(_samples(shards, source, track(numbers, "embedding", total=len(numbers)))) as samples:
                for part in parts:
                    _write_part(encoder, shards, source, out, part, islice(samples, len(part.numbers)))
            record = VectorsRecord.sealed(source, [_described(out, part) for part in _parts(shards)])
            write_json(out / VECTORS_FILE, record.model_dump(mode="json"), flush=True)
            (out / STARTED_FILE).unlink(missing_ok=True)
        except OSError as error:
            hint = "make room there and run the same command again"
            raise WorkError(f"cannot be written ({error.strerror or error})", where=out, hint=hint) from None
        return Outcome(record, len(parts))


def _resumed(out: Path, source: VectorsSource) -> VectorsRecord | None:
    """Record what the folder is made from, or compare it with what it says; the record where it was complete."""
    ours = source.model_dump(mode="json")
    files = [out / name for name in (VECTORS_FILE, STARTED_FILE) if (out / name).is_file()]
    if not files:
        check_is_new(out)
        write_json(out / STARTED_FILE, ours, flush=True)
        return None
    there = read_json(files[0])
    changes = difference({name: there.get(name) for name in ours}, ours)
    if changes:
        hint = "give a new folder, or what this one was made from"
        raise InputError(f"holds other region vectors ({_in_words(changes)})", where=out, hint=hint)
    if files[0].name == STARTED_FILE:
        return None
    record = parse_vectors_record(files[0].read_bytes(), files[0])
    for part in record.parts:
        path = out / part.file
        if path.is_file() and path.stat().st_size != part.num_bytes:
            path.unlink()
    return record


def _in_words(changes: Sequence[str]) -> str:
    """The first differences, by names rather than hashes where there are any."""
    named = [change for change in changes if not change.split(":")[0].endswith(("sha256", "fingerprint"))]
    if named:
        return "; ".join(named[:3])
    wholes = {"encoder.sha256": "the encoder has other weights", "shards.fingerprint": "the shards are other ones"}
    return "; ".join(wholes.get(change.split(":")[0], change) for change in changes)


def _parts(shards: Shards) -> list[_Part]:
    tars, sizes = list_shards(shards)
    ends = np.cumsum(sizes).tolist()
    return [
        _Part(f"{VECTORS_FOLDER}/{tar.removesuffix('.tar')}.parquet", range(end - size, end))
        for tar, size, end in zip(tars, sizes.tolist(), ends, strict=True)
    ]


def _samples(shards: Shards, source: VectorsSource, numbers: Iterator[int]) -> Generator[_Pictured, None, None]:
    layer = shards.layer_named(source.layer)
    for number in numbers:
        sample = shards.sample(number, layers=[layer])
        yield _Pictured(number, resized(sample.picture, source.settings["short_side"]), sample.regions[layer])


def _write_part(
    encoder: Encoder, shards: Shards, source: VectorsSource, out: Path, part: _Part, samples: Iterator[_Pictured]
) -> None:
    """Write a shard's file; pictures are embedded together within the shard only, so that it depends on no other."""
    schema = vectors_schema(source.dim)
    with (
        whole_file(out / part.file, flush=True) as temporary,
        pq.ParquetWriter(temporary, schema, **PARQUET_OPTIONS) as file,
    ):
        for batch in in_batches(samples):
            maps = encoder.embed(np.stack([sample.picture for sample in batch]))
            for sample, embedding in zip(batch, maps, strict=True):
                size = sample.picture.shape[:2]
                means = region_means(embedding, sample.regions, stride=encoder.stride, size=size)
                vectors = _as_float16(means, source.dim, shards.where(sample.number))
                table = _rows(shards.keys[sample.number], vectors, sample.regions, schema)
                file.write_table(table, row_group_size=len(vectors))


def _as_float16(means: Float32[np.ndarray, "r d"], dim: int, where: str) -> Float16[np.ndarray, "r d"]:
    """Vectors as they are stored.

    Raises:
        WorkError: they have another dimension, do not fit into float16, or are too many for one sample.
    """
    if means.shape[1] != dim:
        what = f"the encoder gave {means.shape[1]} values per cell instead of {dim}"
        raise WorkError(what, where=where, hint="an encoder's dimension must not depend on the picture")
    if means.size * 2 > MAX_SAMPLE_BYTES:
        what = f"{len(means):,} regions of {dim:,} values are more than a sample may have"
        raise WorkError(what, where=where, hint="use a layer of larger regions or an encoder of fewer values")
    with np.errstate(over="ignore"):
        vectors = means.astype(np.float16)
    wrong = np.argwhere(~np.isfinite(vectors))
    if len(wrong):
        region, value = wrong[0].tolist()
        what = f"value {value} of region {region} is {means[region, value]:g}, which float16 cannot hold"
        raise WorkError(what, where=where, hint="use an encoder whose values are finite and stay within ±65,504")
    return vectors


def _rows(
    key: str, vectors: Float16[np.ndarray, "r d"], regions: Integer[np.ndarray, "h w"], schema: pa.Schema
) -> pa.Table:
    """The rows of one sample."""
    ids, count = regions.reshape(-1), len(vectors)
    areas = np.bincount(ids, minlength=count)
    row, column = np.indices(regions.shape, np.float64)
    y, x = (np.bincount(ids, axis.reshape(-1), count) / areas for axis in (row, column))
    columns = {
        "key": pa.array([key] * count),
        "region": pa.array(np.arange(count, dtype=np.uint16)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=schema.field("vector").type),
        "area": pa.array(areas.astype(np.uint32)),
        "x": pa.array(x.astype(np.float32)),
        "y": pa.array(y.astype(np.float32)),
    }
    return pa.table(columns, schema=schema)


def _described(out: Path, part: _Part) -> VectorsPart:
    path = out / part.file
    return VectorsPart(
        file=part.file,
        sha256=sha256_file(path),
        num_bytes=path.stat().st_size,
        num_samples=len(part.numbers),
        num_regions=pq.read_metadata(path).num_rows,
    )

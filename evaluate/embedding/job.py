"""Embedding a source picture by picture: bounded memory, can be stopped anywhere, goes on with what is missing.

`started.json` says at the beginning what the files are made from, `embeddings.json` at the end that all are there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.fingerprint import difference
from vice.evaluate.counters import raw_draws
from vice.evaluate.embedding.out_folder import check_is_new, check_room, locked, read_json, whole_file, write_json
from vice.evaluate.embedding.pictures import Picture, Pictures
from vice.evaluate.embedding.writers import Embedded, Format, NpyWriter, ParquetWriter, PngWriter, Writer
from vice.evaluate.encoders.protocol import Encoder, check_finite, num_cells
from vice.evaluate.pictures import PrincipalColours, principal_colours
from vice.evaluate.progress import track

FORMAT, VERSION = "vice-embeddings", 1
STARTED_FILE, DONE_FILE, BASIS_FILE = "started.json", "embeddings.json", "basis.npz"
BASIS_PICTURES, BASIS_CELLS = 64, 2000
"""Of the colours of previews: so many pictures, evenly spaced, and at most so many cells of each."""
SIZED_PICTURES = 8
"""From whose sizes the room that all maps need is estimated."""
PIXELS_AT_ONCE = 1 << 20
"""Picture pixels that are embedded together, where neighbours have one size."""


class Outcome(NamedTuple):
    """What a run did."""

    num_pictures: int
    num_written: int
    """In this run; what was there before is not counted."""
    rejected: dict[str, str]
    """Of the whole source: key to reason."""


def embed_pictures(
    encoder: Encoder, pictures: Pictures, out: Path, *, made_by: dict[str, Any], form: Format, dtype: str
) -> Outcome:
    """Write every picture's map that is not there yet.

    Args:
        encoder: of any origin.
        pictures: what is embedded.
        out: a folder on a disk; made where it is missing.
        made_by: all that decides the bytes (encoder, source, settings): a folder made by anything else is refused.
        form: of the files.
        dtype: of the numbers: `float16` or `float32`.

    Raises:
        InputError: `out` was made by something else, is being written by another process, or has too little room; or
            none of the pictures can be read.
        WorkError: a picture's file cannot be written, or the source's disk failed.
    """
    dim = made_by["encoder"]["dim"]
    with locked(out):
        if _begin(out, made_by, lambda: _num_bytes(pictures, form, dtype, dim=dim, stride=encoder.stride)):
            return Outcome(len(pictures), 0, _rejected_of(out / DONE_FILE))
        writer = _writer(out, form, dtype, encoder, pictures)
        written, rejected = 0, {}
        units = range(0, len(pictures), writer.unit)
        for batch in _batches(track(units, "embedding", total=len(units)), writer.unit):
            numbers = {first: range(first, min(first + writer.unit, len(pictures))) for first in batch}
            keys = {first: [pictures.key(number) for number in of] for first, of in numbers.items()}
            missing = [first for first in batch if not writer.is_done(first, keys[first])]
            for first in batch:
                if first not in missing:
                    rejected |= writer.rejected(first, keys[first])
            wanted = [number for first in missing for number in numbers[first]]
            made = _embedded(encoder, pictures, wanted)
            try:
                for first in missing:
                    found = writer.write(first, _next(made, len(numbers[first])))
                    rejected |= found
                    written += len(numbers[first]) - len(found)
            except OSError as error:
                hint = "make room there and run the same command again"
                raise WorkError(f"cannot be written ({error.strerror or error})", where=out, hint=hint) from None
        if len(rejected) == len(pictures):
            key, reason = next(iter(rejected.items()))
            raise InputError(f"none of {len(pictures):,} pictures can be read ({reason})", where=key)
        totals = {"num_pictures": len(pictures), "num_rejected": len(rejected), "rejected": rejected}
        write_json(out / DONE_FILE, {**_head(made_by), **totals})
        return Outcome(len(pictures), written, rejected)


def _batches(units: Iterator[int], unit: int) -> Iterator[list[int]]:
    """Consecutive units, so many that pictures of one size can be embedded together."""
    batch: list[int] = []
    for first in units:
        batch.append(first)
        if len(batch) * unit >= 16:
            yield batch
            batch = []
    if batch:
        yield batch


def _next(made: Iterator[Embedded], count: int) -> Iterator[Embedded]:
    for _ in range(count):
        yield next(made)


def _embedded(encoder: Encoder, pictures: Pictures, numbers: Sequence[int]) -> Iterator[Embedded]:
    """Maps of the pictures with these numbers, in order; neighbours of one size go through the network together."""
    waiting: list[Picture] = []
    for number in numbers:
        picture = _read(pictures, number)
        if waiting and not _fits(waiting, picture):
            yield from _flush(encoder, waiting)
            waiting = []
        waiting.append(picture)
    yield from _flush(encoder, waiting)


def _read(pictures: Pictures, number: int) -> Picture:
    try:
        return pictures.read(number)
    except OSError as error:
        hint = "run the same command again"
        raise WorkError(f"a disk or store failed ({error})", where=pictures.key(number), hint=hint) from None


def _fits(waiting: Sequence[Picture], picture: Picture) -> bool:
    if picture.pixels is None or waiting[0].pixels is None:
        return False
    height, width = picture.pixels.shape[:2]
    return waiting[0].pixels.shape == picture.pixels.shape and (len(waiting) + 1) * height * width <= PIXELS_AT_ONCE


def _flush(encoder: Encoder, waiting: Sequence[Picture]) -> Iterator[Embedded]:
    if not waiting:
        return
    if waiting[0].pixels is None:
        yield Embedded(waiting[0].key, (0, 0), None, waiting[0].rejected)
        return
    maps = encoder.embed(np.stack([picture.pixels for picture in waiting]))
    for picture, embedding in zip(waiting, maps, strict=True):
        check_finite(embedding, name=encoder.name, where=picture.key)
        yield Embedded(picture.key, picture.pixels.shape[:2], embedding)


def _writer(out: Path, form: Format, dtype: str, encoder: Encoder, pictures: Pictures) -> Writer:
    if form == "npy":
        return NpyWriter(out, dtype)
    if form == "parquet":
        return ParquetWriter(out, dtype)
    return PngWriter(out, _basis(out, encoder, pictures), encoder.stride)


def _basis(out: Path, encoder: Encoder, pictures: Pictures) -> PrincipalColours:
    """The colours of all previews: kept beside them, so that a run that goes on paints alike."""
    path = out / BASIS_FILE
    if not path.is_file():
        numbers = np.unique(np.linspace(0, len(pictures) - 1, min(BASIS_PICTURES, len(pictures))).astype(int)).tolist()
        cells = []
        for number, one in zip(numbers, _embedded(encoder, pictures, numbers), strict=True):
            if one.embedding is not None:
                vectors = one.embedding.reshape(len(one.embedding), -1).T
                drawn = np.argsort(raw_draws(0, "pixels", number, len(vectors)), kind="stable")[:BASIS_CELLS]
                cells.append(vectors[np.sort(drawn)])
        if not cells:
            raise InputError("none of the pictures can be read", hint="see what vice-prep shard says of them")
        basis = principal_colours(np.concatenate(cells))
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **basis._asdict())
    with np.load(path) as kept:
        return PrincipalColours(**{name: kept[name] for name in PrincipalColours._fields})


def _rejected_of(record: Path) -> dict[str, str]:
    """Key to reason, of a finished folder's record."""
    rejected = read_json(record).get("rejected")
    if not isinstance(rejected, dict):
        hint = "remove this file and run the same command again"
        raise InputError("is damaged (no 'rejected')", where=record, hint=hint)
    return rejected


def _num_bytes(pictures: Pictures, form: Format, dtype: str, *, dim: int, stride: int) -> int:
    """About how many bytes all maps take, from the sizes of some pictures; 0 for previews, which are small."""
    if form == "png":
        return 0
    some = np.unique(np.linspace(0, len(pictures) - 1, SIZED_PICTURES).astype(int)).tolist()
    read = (_read(pictures, number).pixels for number in some)
    cells = sum(math.prod(num_cells(*pixels.shape[:2], stride)) for pixels in read if pixels is not None) / len(some)
    return int(len(pictures) * cells * dim * np.dtype(dtype).itemsize)


def _begin(out: Path, made_by: dict[str, Any], needed: Callable[[], int]) -> bool:
    """Say what the folder is made from, or hold it against what it says; whether all is done already."""
    path = out / STARTED_FILE
    if not path.is_file():
        check_is_new(out)
        check_room(out, needed())
        write_json(path, _head(made_by))
    there = read_json(path)
    changes = difference(there, json.loads(json.dumps(_head(made_by))))
    if changes:
        hint = "give another folder, or what it was begun with"
        raise InputError(f"was begun with something else ({'; '.join(changes[:3])})", where=out, hint=hint)
    return (out / DONE_FILE).is_file()


def _head(made_by: dict[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "made_by": made_by}

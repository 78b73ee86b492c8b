"""How embedding maps become files: NumPy arrays, Parquet parts, or previews in colour; each file whole or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from vice.data_specs.errors import WorkError
from vice.evaluate.embedding.out_folder import file_of, whole_file
from vice.evaluate.pictures import PrincipalColours

Format = Literal["npy", "parquet", "png"]
DTYPES = {"float16": np.float16, "float32": np.float32}
PART_PICTURES = 256
"""Pictures of a Parquet part; each is a row group of its own, so that a part can be read picture by picture."""
REJECTED_KEY = b"vice.rejected"


class Embedded(NamedTuple):
    """One picture's map, or why there is none."""

    key: str
    size: tuple[int, int]
    """Height and width of the picture that was embedded."""
    embedding: Float32[np.ndarray, "d gh gw"] | None
    rejected: str = ""


def _stored(one: Embedded, dtype: type[np.floating]) -> np.ndarray:
    """A map [d, gh, gw] in the type it is written in.

    Raises:
        WorkError: a value is too large for it.
    """
    with np.errstate(over="ignore"):
        values = one.embedding.astype(dtype)
    if not np.isfinite(values).all():
        what = f"a value of {np.abs(one.embedding).max():g} does not fit into float16"
        raise WorkError(what, where=one.key, hint="write --dtype float32, into a new folder")
    return values


@runtime_checkable
class Writer(Protocol):
    """Writes the pictures of a unit: the part of the work that is done whole or not at all."""

    unit: int
    """Pictures of a unit."""

    def is_done(self, first: int, keys: Sequence[str]) -> bool:
        """Whether a unit's files are there."""
        ...

    def write(self, first: int, pictures: Iterator[Embedded]) -> dict[str, str]:
        """Write a unit; returns its rejected pictures with the reasons."""
        ...

    def rejected(self, first: int, keys: Sequence[str]) -> dict[str, str]:
        """Rejected pictures of a unit that is done."""
        ...


class NpyWriter:
    """`maps/KEY.npy`: [d, gh, gw] of the asked type."""

    unit = 1

    def __init__(self, out: Path, dtype: str):
        self._folder, self._dtype = out / "maps", DTYPES[dtype]

    def is_done(self, first: int, keys: Sequence[str]) -> bool:
        """Whether a unit's files are there."""
        return file_of(self._folder, keys[0], ".npy").is_file()

    def write(self, first: int, pictures: Iterator[Embedded]) -> dict[str, str]:
        """Write a unit; returns its rejected pictures with the reasons."""
        for one in pictures:
            if one.embedding is None:
                return {one.key: one.rejected}
            with whole_file(file_of(self._folder, one.key, ".npy")) as temporary, temporary.open("wb") as file:
                np.save(file, _stored(one, self._dtype))
        return {}

    def rejected(self, first: int, keys: Sequence[str]) -> dict[str, str]:
        """None: a rejected picture has no file, and is tried again."""
        return {}


class PngWriter:
    """`previews/KEY.png`: a map by its main directions as red, green and blue, at the picture's size."""

    unit = 1

    def __init__(self, out: Path, basis: PrincipalColours, stride: int):
        self._folder, self._basis, self._stride = out / "previews", basis, stride

    def is_done(self, first: int, keys: Sequence[str]) -> bool:
        """Whether a unit's files are there."""
        return file_of(self._folder, keys[0], ".png").is_file()

    def write(self, first: int, pictures: Iterator[Embedded]) -> dict[str, str]:
        """Write a unit; returns its rejected pictures with the reasons."""
        for one in pictures:
            if one.embedding is None:
                return {one.key: one.rejected}
            painted = self._basis.paint(one.embedding, *one.size, stride=self._stride)
            data = cv2.imencode(".png", cv2.cvtColor(painted, cv2.COLOR_RGB2BGR))[1]
            with whole_file(file_of(self._folder, one.key, ".png")) as temporary:
                temporary.write_bytes(data.tobytes())
        return {}

    def rejected(self, first: int, keys: Sequence[str]) -> dict[str, str]:
        """None: a rejected picture has no file, and is tried again."""
        return {}


class ParquetWriter:
    """`part-000000.parquet`: a row per picture, with its map as a list of numbers in C order of [d, gh, gw]."""

    unit = PART_PICTURES

    def __init__(self, out: Path, dtype: str):
        self._out, self._dtype = out, DTYPES[dtype]
        number = {"float16": pa.float16(), "float32": pa.float32()}[dtype]
        sizes = [(name, pa.int32()) for name in ("height", "width", "d", "gh", "gw")]
        self._schema = pa.schema([("key", pa.string()), *sizes, ("embedding", pa.list_(number))])

    def _path(self, first: int) -> Path:
        return self._out / f"part-{first // PART_PICTURES:06d}.parquet"

    def is_done(self, first: int, keys: Sequence[str]) -> bool:
        """Whether a unit's files are there."""
        return self._path(first).is_file()

    def write(self, first: int, pictures: Iterator[Embedded]) -> dict[str, str]:
        """Write a unit; returns its rejected pictures with the reasons."""
        rejected: dict[str, str] = {}
        with whole_file(self._path(first)) as temporary, pq.ParquetWriter(temporary, self._schema) as file:
            for one in pictures:
                if one.embedding is None:
                    rejected[one.key] = one.rejected
                else:
                    file.write_table(self._row(one))
            file.add_key_value_metadata({REJECTED_KEY: json.dumps(rejected)})
        return rejected

    def _row(self, one: Embedded) -> pa.Table:
        values = pa.array(_stored(one, self._dtype).reshape(-1))
        columns = [[one.key], *([number] for number in (*one.size, *one.embedding.shape))]
        listed = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
        return pa.table([*columns, listed], schema=self._schema)

    def rejected(self, first: int, keys: Sequence[str]) -> dict[str, str]:
        """Rejected pictures of a part, from its metadata."""
        return json.loads(pq.read_metadata(self._path(first)).metadata[REJECTED_KEY])

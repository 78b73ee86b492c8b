"""Reading region vectors: a sample's by number, straight from the files by offset; no torch, no open files kept."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float16

from vice.data_specs.command_line import command
from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.region_vectors import (
    STARTED_FILE,
    VECTORS_FILE,
    VectorLayout,
    VectorsPart,
    VectorsRecord,
    parse_vectors_record,
    vector_layout,
)
from vice.data_specs.regions import grid_cell
from vice.pipeline.shards import Shards
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.opening import open_storage

MAKE = "vice-eval embed ENCODER SHARDS OUT --regions LAYER"


class RegionVectors:
    """A complete OUT of `vice-eval embed --regions`, opened for reading; may be shared by threads and forked processes.

    Args:
        out: the folder, on a disk or an object store.

    Raises:
        InputError: not a complete folder of region vectors of this format version, or a file has another size than
            recorded.
    """

    def __init__(self, out: str | Path | Storage):
        self.storage = open_storage(out)
        self.record = _read_record(self.storage)
        self._check_sizes()
        self._first = np.cumsum([0, *(part.num_samples for part in self.record.parts)])
        self._layouts: dict[str, VectorLayout] = {}

    def __len__(self) -> int:
        """Number of samples."""
        return self.record.num_samples

    @property
    def address(self) -> str:
        """Where these vectors lie, as given."""
        return self.storage.address

    @property
    def dim(self) -> int:
        """Values of a vector (T)."""
        return self.record.dim

    @property
    def fingerprint(self) -> str:
        """Names these vectors exactly."""
        return self.record.fingerprint

    def check(self, shards: Shards, layer: str) -> None:
        """Make sure that these are the vectors of a layer of some shards.

        Args:
            shards: that the vectors are to be used with.
            layer: as `slic:20` or `slic20`.

        Raises:
            InputError: they belong to other shards or to another layer, or the layer is never stored.
        """
        made_from = self.record.shards
        hint = f"make vectors with: {command('vice-eval', 'embed', 'ENCODER', shards.address, 'OUT')}"
        if grid_cell(layer) is not None:
            what = f"region vectors belong to a stored layer ({self.record.layer}), regions are {layer}"
            raise InputError(what, where=self.address, hint=f"use regions={self.record.layer}, or no region vectors")
        if made_from.fingerprint != shards.fingerprint:
            theirs = f"{made_from.dataset} {made_from.split}, {made_from.num_samples:,} pictures"
            ours = f"{shards.spec.name} {shards.record.settings.split}, {len(shards):,} pictures"
            what = f"region vectors of other shards ({theirs}) than {shards.address} ({ours})"
            raise InputError(what, where=self.address, hint=f"{hint} --regions {layer}")
        if shards.layer_named(layer) != shards.layer_named(self.record.layer):
            what = f"region vectors of layer {self.record.layer}, not {layer}"
            raise InputError(what, where=self.address, hint=f"{hint} --regions {layer}")

    def of_sample(self, number: int) -> Float16[np.ndarray, "r t"]:
        """Vectors of all regions of a sample, in the order of their ids.

        Args:
            number: index of the sample in the shards.

        Raises:
            IndexError: there is no such sample.
            WorkError: the file cannot be read.
        """
        number = operator.index(number)
        if not 0 <= number < len(self):
            raise IndexError(f"no sample {number}, there are {len(self)}: {self.address}")
        place = int(np.searchsorted(self._first, number, side="right")) - 1
        part = self.record.parts[place]
        layout, row = self._layout(part), number - int(self._first[place])
        count = int(layout.num_regions[row])
        try:
            (data,) = self.storage.read_ranges(part.file, [(int(layout.offsets[row]), 2 * self.dim * count)])
        except OSError as error:
            raise self._bad_file(part, str(error)) from None
        return np.frombuffer(data, "<f2").reshape(count, self.dim)

    def of_samples(self, numbers: Iterable[int]) -> Iterator[Float16[np.ndarray, "r t"]]:
        """`of_sample` of several samples, one in memory at a time."""
        return map(self.of_sample, numbers)

    def verify(self) -> None:
        """Compare every file with its recorded sha256.

        Raises:
            WorkError: a file cannot be read or was changed; names it.
        """
        for part in self.record.parts:
            try:
                same = self.storage.sha256(part.file) == part.sha256
            except OSError as error:
                raise self._bad_file(part, str(error)) from None
            if not same:
                raise self._bad_file(part, "its sha256 is not the recorded one")

    def _check_sizes(self) -> None:
        sizes = {entry.path: entry.size for entry in self.storage.walk()}
        for part in self.record.parts:
            size = sizes.get(part.file)
            if size != part.num_bytes:
                what = "missing" if size is None else f"{size:,} bytes instead of {part.num_bytes:,}"
                hint = "run the same vice-eval embed again to repair it"
                raise InputError(f"damaged region vectors ({what})", where=self.storage.where(part.file), hint=hint)

    def _layout(self, part: VectorsPart) -> VectorLayout:
        """A file's layout, kept once it was read; threads that read it at the same time find the same."""
        layout = self._layouts.get(part.file)
        if layout is None:
            try:
                with self.storage.open(part.file) as file:
                    layout = vector_layout(pq.ParquetFile(file), self.dim)
                if (len(layout.offsets), layout.num_regions.sum()) != (part.num_samples, part.num_regions):
                    raise ValueError("it has other samples than recorded")
            except (OSError, ValueError, pa.ArrowException) as error:
                raise self._bad_file(part, str(error).splitlines()[0]) from None
            self._layouts[part.file] = layout
        return layout

    def _bad_file(self, part: VectorsPart, reason: str) -> WorkError:
        hint = "remove this file and run the same vice-eval embed again"
        return WorkError(f"region vectors cannot be read ({reason})", where=self.storage.where(part.file), hint=hint)


def _read_record(out: Storage) -> VectorsRecord:
    """`vectors.json` of a complete OUT."""
    try:
        data = out.read(VECTORS_FILE)
    except (FileNotFoundError, NotADirectoryError):
        raise _not_complete(out) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error})", where=out.where(VECTORS_FILE)) from None
    return parse_vectors_record(data, out.where(VECTORS_FILE))


def _not_complete(out: Storage) -> InputError:
    """Why there is no record."""
    try:
        started = json.loads(out.read(STARTED_FILE))
        layer, shards = started["layer"], started["shards"]
    except (OSError, ValueError, KeyError, TypeError):
        return InputError("no region vectors", where=out.address, hint=f"make them with: {MAKE}")
    what = f"region vectors of {shards['dataset']} {shards['split']} are not complete"
    finish = command("vice-eval", "embed", "ENCODER", "SHARDS", out.address, "--regions", layer)
    hint = f"finish them with: {finish}"
    return InputError(what, where=out.address, hint=hint)

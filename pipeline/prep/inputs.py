"""The inputs of a job, in an order that is fixed before work starts. A million of them take some 70 MB."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import InputError
from vice.pipeline.prep.kept_tars import KeptTars
from vice.pipeline.prep.listing import TAR_VERSION, entries_with_tars
from vice.pipeline.prep.sources import Listing, open_source
from vice.pipeline.prep.tar_headers import Place
from vice.pipeline.prep.tars import Input, TarListing
from vice.pipeline.storage.base import Storage

ORDER_VERSION = "philox-argsort 1"
_NO_TAR = -1
_CHUNK = 1 << 14


@dataclass(frozen=True)
class TarPlaces:
    """Where inputs lie in tars."""

    names: list[str]
    """Paths of the tars."""
    tar: np.ndarray
    """int32 [n], number of the tar, -1 for a file by itself."""
    places: np.ndarray
    """int64 [n, 4]: offset and size of the picture, offset and size of the label map; -1 where there is none."""
    problems: dict[str, str]
    """Of tars that cannot be read to their end."""
    header_sizes: dict[int, int]
    """By number of a tar of which only an index says what lies where, bytes of the header before each member."""


@dataclass(frozen=True)
class Inputs:
    """What a source holds."""

    storage: Storage
    """The source's root."""
    paths: pa.ChunkedArray
    """large_binary: of the inputs relative to it, sorted by their bytes."""
    fingerprint: str
    """Of paths and sizes of all inputs and label maps."""
    tars: TarPlaces | None = None
    """Where the source has tars."""
    covers_root: bool = True
    """Whether every file below the root belongs to it, so that OUT must not lie there."""

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, chosen: pa.BooleanArray, *, after: str) -> Inputs:
        """Some of the inputs.

        Args:
            chosen: one value per input.
            after: fingerprint of what the others went into.
        """
        tars = self.tars
        if tars is not None:
            kept = chosen.to_numpy(zero_copy_only=False)
            tars = replace(tars, tar=tars.tar[kept], places=tars.places[kept])
        fingerprint = hashlib.sha256(f"{self.fingerprint} after {after}".encode()).hexdigest()
        return replace(self, paths=self.paths.filter(chosen), fingerprint=fingerprint, tars=tars)

    def __getitem__(self, number: int) -> Input:
        path = os.fsdecode(self.paths[number].as_py())
        if self.tars is None or self.tars.tar[number] == _NO_TAR:
            return Input(path, problem=None if self.tars is None else self.tars.problems.get(path))
        offset, size, label_offset, label_size = self.tars.places[number].tolist()
        label = None if label_offset < 0 else Place(label_offset, label_size)
        tar = int(self.tars.tar[number])
        header_size = self.tars.header_sizes.get(tar, 0)
        return Input(path, self.tars.names[tar], Place(offset, size), label, header_size=header_size)


def find_inputs(
    source: str | Path, spec: DatasetSpec, split: str | None = None, kept: KeptTars | None = None
) -> Inputs:
    """List every file of the source that is not hidden and an input of the split by the spec; of a tar, every picture.

    Args:
        source: see `open_source`.
        spec: how the dataset names its files.
        split: of the dataset.
        kept: listings of tars that an earlier run kept, and where those of this run are kept.

    Raises:
        InputError: no such source, not readable, no such split, no input in it, or not the dataset.
    """
    listing = open_source(str(source), missing_hint=spec.source)
    selection = spec.selection(split, lambda path: listing.storage.read(path).decode())
    table = _Table(spec)
    with closing(entries_with_tars(listing, selection, kept)) as entries:
        for (path, size), tar in entries:
            if tar is not None:
                table.note(f"{path}\0{TAR_VERSION}", size)
                table.add_tar(path, tar)
            elif selection.is_input(path):
                table.note(path, size)
                table.add(path)
            elif spec.is_label(path):
                table.note(path, size)
                table.has_label = True
    has_label = table.has_label or not listing.is_folder
    selection.check_present(has_picture=table.has_picture, has_label=has_label, where=source)
    for line in selection.identity():
        table.note(line, 0)
    inputs = table.finish(listing)
    if not len(inputs):
        hint = "hidden files and label maps do not count" if table.noted else "give the folder that the pictures are in"
        raise InputError("no pictures in the source", where=source, hint=hint)
    return inputs


@dataclass
class _Table:
    """Inputs while they are being listed, kept as Arrow arrays."""

    spec: DatasetSpec
    has_picture: bool = False
    has_label: bool = False
    noted: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    chunks: list[pa.Array] = field(default_factory=list)
    pending: list[bytes] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    tar: list[np.ndarray] = field(default_factory=list)
    places: list[np.ndarray] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    header_sizes: dict[int, int] = field(default_factory=dict)
    plain: int = 0
    """Files by themselves since the last tar."""

    def note(self, path: str, size: int) -> None:
        """Let a file count for the fingerprint."""
        self.noted += 1
        self.digest.update(f"{printable(path)}\0{size}\n".encode())

    def add(self, path: str) -> None:
        """Add a file by itself."""
        self.pending.append(os.fsencode(path))
        self.plain += 1
        self.has_picture = self.has_picture or self.spec.picture(path) is not None
        if len(self.pending) >= _CHUNK:
            self._pack()

    def add_tar(self, name: str, found: TarListing) -> None:
        """Add the inputs of a tar."""
        self._close_plain()
        self._pack()
        self.has_picture = self.has_picture or found.has_picture
        self.has_label = self.has_label or bool((found.places[:, 2] >= 0).any())
        self.problems |= found.problems
        if found.header_size:
            self.header_sizes[len(self.tars)] = found.header_size
        self.chunks.append(found.paths)
        self.tar.append(np.where(found.places[:, 0] < 0, _NO_TAR, len(self.tars)).astype(np.int32))
        self.places.append(found.places)
        self.tars.append(name)

    def finish(self, listing: Listing) -> Inputs:
        """All that was added, sorted."""
        self._pack()
        # never joined: that would take their bytes once more
        paths = pa.chunked_array(self.chunks, pa.large_binary())
        tars = None
        if self.tars:
            self._close_plain()
            tar, places = np.concatenate(self.tar), np.concatenate(self.places)
            tars = TarPlaces(self.tars, tar, places, self.problems, self.header_sizes)
        if not _is_sorted(paths):
            order = pc.sort_indices(paths)
            paths = paths.take(order)
            if tars is not None:
                order = order.to_numpy()
                tars = replace(tars, tar=tar[order], places=places[order])
        return Inputs(listing.storage, paths, self.digest.hexdigest(), tars, listing.covers_root)

    def _pack(self) -> None:
        if self.pending:
            self.chunks.append(pa.array(self.pending, pa.large_binary()))
            self.pending = []

    def _close_plain(self) -> None:
        self.tar.append(np.full(self.plain, _NO_TAR, np.int32))
        self.places.append(np.full((self.plain, 4), -1, np.int64))
        self.plain = 0


def _is_sorted(paths: pa.ChunkedArray) -> bool:
    return len(paths) < 2 or pc.all(pc.less_equal(paths[:-1], paths[1:])).as_py()


def shuffled(inputs: Inputs, seed: int, *, tar_window: int) -> np.ndarray:
    """The seeded order in which inputs fill the shards: neighbours in a video end far apart.

    Inputs in tars are shuffled within windows of tars, which are shuffled themselves: a shard reads from few tars.

    Args:
        inputs: what is to be ordered.
        seed: of the order.
        tar_window: tars of a window.

    Returns:
        int64 [n], numbers of inputs.
    """
    draws = _draws(seed, "order", len(inputs))
    if inputs.tars is None:
        return np.argsort(draws, kind="stable")
    rank = np.empty(len(inputs.tars.names) + 1, np.int64)
    rank[np.argsort(_draws(seed, "tars", len(inputs.tars.names)), kind="stable")] = np.arange(len(rank) - 1)
    window = rank // tar_window
    window[_NO_TAR] = -1  # files by themselves come first
    return np.lexsort((draws, window[inputs.tars.tar]))


def _draws(seed: int, what: str, count: int) -> np.ndarray:
    key = int.from_bytes(hashlib.sha256(f"vice.prep.{what}:{seed}".encode()).digest()[:16], "little")
    return np.random.Philox(key=key).random_raw(count)


def printable(path: str) -> str:
    """A path as it stands in records, different for different paths.

    Bytes of a file name that are no UTF-8 become `\\xff`, a backslash becomes two.
    """
    return _printable(os.fsencode(path))


def printable_paths(inputs: Inputs) -> Iterator[str]:
    """All paths as they stand in records, in the order of the inputs."""
    for chunk in inputs.paths.chunks:
        for start in range(0, len(chunk), _CHUNK):
            yield from map(_printable, chunk[start : start + _CHUNK].to_pylist())


def _printable(path: bytes) -> str:
    return path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")

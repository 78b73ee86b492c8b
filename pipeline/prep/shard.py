"""Samples → a shard: tar, DALI index, record. A pure function to bytes, and how they are written."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vice.data_specs.fingerprint import canonical_json
from vice.data_specs.shard_format import ShardRecord
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import PreparedSample
from vice.pipeline.shards import INDEX_VERSION


class ShardBytes(NamedTuple):
    """The files of one shard; tar and index are empty, and not written, where every input was rejected.

    (DALI refuses an index without samples, and a tar without members.)
    """

    tar: bytes
    index: bytes
    record: bytes
    """`SPLIT-000000.json`: a ShardRecord."""
    rows: bytes
    """Manifest rows and rejections as JSON, kept beside OUT's shards until the whole job is done."""


def build_shard(name: str, results: Sequence[PreparedSample | Rejection], settings_fingerprint: str) -> ShardBytes:
    """Build a shard from the results of its inputs, in order.

    Args:
        name: the shard's name without suffix.
        results: a sample or a rejection for each input.
        settings_fingerprint: of the settings that made them.
    """
    samples = [result for result in results if isinstance(result, PreparedSample)]
    rejections = [result for result in results if isinstance(result, Rejection)]
    tar, index = _tar_and_index(samples) if samples else (b"", b"")
    record = ShardRecord(
        tar_sha256=hashlib.sha256(tar).hexdigest(),
        index_sha256=hashlib.sha256(index).hexdigest(),
        num_samples=len(samples),
        num_rejected=len(rejections),
        settings_fingerprint=settings_fingerprint,
    )
    rows = [sample.row | {"shard": f"{name}.tar", "index": i} for i, sample in enumerate(samples)]
    return ShardBytes(
        tar=tar,
        index=index,
        record=canonical_json(record.model_dump(mode="json")),
        rows=canonical_json({"samples": rows, "rejected": [rejection._asdict() for rejection in rejections]}),
    )


def _tar_and_index(samples: Sequence[PreparedSample]) -> tuple[bytes, bytes]:
    """USTAR with nothing in its headers but names and sizes, and the DALI index of its members' data."""
    buffer = io.BytesIO()
    lines = [f"{INDEX_VERSION} {len(samples)}"]
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            words = []
            for extension, data in sample.members.items():
                entry = tar_entry(f"{sample.key}.{extension}", len(data))
                words.append(f"{extension} {buffer.tell() + tarfile.BLOCKSIZE} {len(data)} {entry.name}")
                tar.addfile(entry, io.BytesIO(data))
            lines.append(" ".join(words))
    return buffer.getvalue(), ("\n".join(lines) + "\n").encode("ascii")


def tar_entry(name: str, size: int) -> tarfile.TarInfo:
    """The header of a member: owner, time and mode are the same in every shard."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime, entry.uid, entry.gid = size, 0o644, 0, 0, 0
    return entry


def write_shard(folder: Path, rows_folder: Path, name: str, shard: ShardBytes) -> None:
    """Write a shard's files; its record comes last and says that the others are whole.

    Args:
        folder: where tar, index and record go.
        rows_folder: where the rows go; temporary files too, so that `folder` never holds one.
        name: the shard's name without suffix.
        shard: its bytes.
    """
    for path, data in ((folder / f"{name}.tar", shard.tar), (folder / f"{name}.idx", shard.index)):
        if data:
            write_whole(path, data, temporary=rows_folder)
    write_whole(rows_folder / f"{name}.json", shard.rows, temporary=rows_folder)
    write_whole(folder / f"{name}.json", shard.record, temporary=rows_folder)


def write_whole(path: Path, data: bytes, *, temporary: Path) -> None:
    """Write a file so that under its name it is always whole: to a temporary name, flushed to disk, renamed.

    Args:
        path: the file's name.
        data: its bytes.
        temporary: folder for the temporary name, on the same disk.
    """
    aside = temporary / f"{path.name}.{os.getpid()}.tmp"
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def read_rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Read a shard's rows as written by `write_shard`: `samples` and `rejected`."""
    return json.loads(path.read_bytes())

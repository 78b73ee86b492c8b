"""Time and memory of planning many inputs, which are generated rather than written.

    python benchmarks/plan.py [--count 1000000] [--kinds store list.txt ...] [--output plan.json]

Each kind of source is planned by the real functions in a process of its own, and so is a fifth of it. Memory is the
peak resident set of the process, per input what it grows by. Requests of a store are answered at once from memory:
seconds are those of this machine's cores alone.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vice.data_specs.dataset import load_dataset
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep import inputs
from vice.pipeline.prep.kept_tars import KeptTars
from vice.pipeline.prep.plan import Plan, make_plan
from vice.pipeline.prep.sources import Listing
from vice.pipeline.storage.base import Entry, Version
from vice.pipeline.storage.objects import ObjectStorage
from vice.pipeline.storage.opening import open_storage

PER_FOLDER, PER_TAR = 1000, 4096
KINDS = ("store", "list.txt", "list.csv", "list.parquet", "tars-by-headers", "tars-by-index", "tars-kept")


def path(number: int) -> str:
    """A path of 60 characters."""
    return f"collection_{number // PER_FOLDER:08d}/picture_of_something_{number:015d}.jpg"


class Generated(ObjectStorage):
    """A store of pictures, or of tars with a picture and a text per sample, that exists only as far as it is read."""

    def __init__(self, count: int, *, tars: bool, indexed: bool):
        super().__init__("s3://generated/pictures")
        self._count, self._tars = count, tars
        self._tar, index = tar_and_index(min(PER_TAR, count)) if tars else (b"", b"")
        self._index = index if indexed else None

    def walk(self, **_: object) -> Iterator[Entry]:
        """Pictures by themselves, or tars."""
        if self._tars:
            num_tars = -(-self._count // PER_TAR)
            yield from (Entry(f"collection/{number:08d}.tar", len(self._tar)) for number in range(num_tars))
        else:
            yield from (Entry(path(number), 100_000) for number in range(self._count))

    def version(self, name: str) -> Version:
        """The same for all tars."""
        return Version(len(self._tar), "tag")

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts of a tar."""
        return [self._tar[offset : offset + size] for offset, size in ranges]

    def chunks(self, name: str) -> Iterator[bytes]:
        """The index of a tar."""
        if self._index is None:
            raise FileNotFoundError(name)
        yield self._index


def tar_and_index(num_samples: int) -> tuple[bytes, bytes]:
    """A tar of two members of 1,000 bytes per sample, and its index."""
    buffer, lines = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(num_samples):
            for suffix in ("jpg", "json"):
                entry = tarfile.TarInfo(f"picture_of_something_{number:017d}.{suffix}")
                entry.size = 1000
                lines.append(f"{suffix} {archive.offset + tarfile.BLOCKSIZE} {entry.size} {entry.name}\n")
                archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    return buffer.getvalue(), f"v1.2 {len(lines)}\n{''.join(lines)}".encode()


def write_list(file: Path, count: int) -> None:
    """A list of objects, in no order."""
    draws = np.random.Generator(np.random.Philox(key=1)).permutation(count)
    paths = (f"s3://generated/pictures/{path(number)}" for number in draws)
    if file.suffix == ".parquet":
        pq.write_table(pa.table({"path": list(paths)}), file)
        return
    with file.open("w") as text:
        text.write("path\n" if file.suffix == ".csv" else "")
        text.writelines(f"{one}\n" for one in paths)


def plan(kind: str, count: int, folder: Path, *, save: bool = False) -> Plan:
    """Plan a source, with listings kept in a folder where the kind says so."""
    spec, settings = load_dataset("image_folder"), PrepSettings(samples_per_shard=PER_TAR)
    if kind.startswith("list"):
        return make_plan(folder / kind, settings, spec)
    storage = Generated(count, tars=kind.startswith("tars"), indexed=kind == "tars-by-index")
    inputs.open_source = lambda *_, **__: Listing(storage, storage.walk(), covers_root=True, is_folder=True)
    kept = KeptTars(open_storage(folder)) if kind == "tars-kept" else None
    planned = make_plan("generated", settings, spec, kept)
    if save:
        kept.save()
    return planned


def measure(kind: str, count: int) -> dict[str, Any]:
    """Plan in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if kind.startswith("list"):
            write_list(Path(folder) / kind, count)
        if kind == "tars-kept":
            plan(kind, count, Path(folder), save=True)
        command = [sys.executable, __file__, "--child", kind, "--folder", folder, "--count", str(count)]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def child(kind: str, count: int, folder: Path) -> None:
    """Print what planning took."""
    began, began_cpu = time.monotonic(), time.process_time()
    planned = plan(kind, count, folder)
    seconds, cpu = time.monotonic() - began, time.process_time() - began_cpu
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"count": len(planned.order), "seconds": seconds, "cpu": cpu, "peak": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("AWS_REGION", "us-east-1")
    if given.child:
        child(given.child, given.count, given.folder)
        return
    rows = []
    print("| source | inputs | seconds | CPU, s | peak, MB | bytes per input |\n|---|---|---|---|---|---|")
    for kind in given.kinds:
        few, many = measure(kind, given.count // 5), measure(kind, given.count)
        grown = (many["peak"] - few["peak"]) / (many["count"] - few["count"])
        rows.append({"kind": kind, "bytes": grown, **many})
        row = rows[-1]
        times = f"{row['seconds']:.1f} | {row['cpu']:.1f}"
        memory = f"{row['peak'] / 1e6:.0f} | {row['bytes']:.0f}"
        print(f"| {kind} | {row['count']:,} | {times} | {memory} |", flush=True)
    if given.output:
        given.output.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "rows": rows}))


if __name__ == "__main__":
    main()

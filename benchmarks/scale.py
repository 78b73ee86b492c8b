"""Time and memory of sharding many small pictures; and a worker's memory with large ones.

    python benchmarks/scale.py [--counts 10000 100000] [--workers 2] [--large FOLDER] [--output scale.json]

Each count is sharded by the command itself, in a process of its own; its memory is the peak resident set that the
kernel has noted (VmHWM) of the driver, and of the largest of Ray's workers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIDE, PER_FOLDER = 64, 1000


def generate(folder: Path, count: int) -> None:
    """Write `count` small JPEGs of blobs, a thousand to a folder, with names as long as real ones."""
    draws = np.random.Generator(np.random.Philox(key=1))
    for number in range(count):
        if number % PER_FOLDER == 0:
            inside = folder / f"collection_{number // PER_FOLDER:06d}"
            inside.mkdir(parents=True)
        coarse = draws.integers(0, 256, (SIDE // 8, SIDE // 8, 3)).astype(np.uint8)
        pixels = cv2.resize(coarse, dsize=(SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        (inside / f"picture_of_something_{number:010d}.jpg").write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())


def peak(process: int) -> int:
    """Peak resident memory of a process in bytes, 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def ray_workers() -> list[int]:
    """Processes of Ray's workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::") and b"Agent" not in title:
            found.append(int(path.parent.name))
    return found


def shard(source: Path, out: Path, *options: str) -> dict[str, Any]:
    """Shard with the command; seconds, peak memory of driver and largest worker in bytes."""
    command = [sys.executable, "-c", "from vice.pipeline.prep.cli import main; main()", "shard", str(source), str(out)]
    began = time.monotonic()
    driver = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    memory = {"driver": 0, "worker": 0}
    while driver.poll() is None:
        memory["driver"] = max(memory["driver"], peak(driver.pid))
        memory["worker"] = max([memory["worker"], *map(peak, ray_workers())])
        time.sleep(0.1)
    if driver.returncode != 0:
        sys.exit("sharding failed")
    times = sorted(path.stat().st_mtime for path in out.glob("shards/*.json"))
    return {"seconds": time.monotonic() - began, "working": times[-1] - times[0], **memory}


def many(folder: Path, count: int, workers: int) -> dict[str, Any]:
    """Shard `count` small pictures."""
    generate(folder / "source", count)
    options = ("--regions", "slic:16", "--workers", str(workers))
    return {"count": count, **shard(folder / "source", folder / "out", *options)}


def large(folder: Path, pictures: Path, workers: int) -> dict[str, Any]:
    """Shard 96 large pictures, in one shard."""
    (folder / "source").mkdir(parents=True)
    paths = sorted(path for path in pictures.iterdir() if path.suffix == ".jpg")
    for number in range(96):
        shutil.copy(paths[number % len(paths)], folder / f"source/{number:03d}.jpg")
    return {"count": 96, **shard(folder / "source", folder / "out", "--workers", str(workers))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("VICE_DATA", Path(__file__).parents[2] / "shared/data")) / "cityscapes/train/images"
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--large", type=Path, default=default)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = []
    print("| pictures | in all, s | pictures/s once started | driver, MB | largest worker, MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for count in given.counts:
            rows.append(("small", many(Path(folder) / str(count), count, given.workers)))
            tell(*rows[-1])
        if given.large.is_dir():
            rows.append(("2048×1024", large(Path(folder) / "large", given.large, given.workers)))
            tell(*rows[-1])
    if given.output:
        given.output.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "rows": rows}))


def tell(what: str, row: dict[str, Any]) -> None:
    """Print a row of the table."""
    rate = f"{row['count'] / row['working']:.0f}" if row["working"] else "–"
    memory = f"{row['driver'] / 1e6:.0f} | {row['worker'] / 1e6:.0f}"
    print(f"| {row['count']:,} {what} | {row['seconds']:.0f} | {rate} | {memory} |", flush=True)


if __name__ == "__main__":
    main()

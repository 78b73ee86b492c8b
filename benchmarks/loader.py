"""Speed of the loader, against views made per access in the way of the paper's published code.

Compares (a) decoding, SLIC, Canny, crops, masks and colour at every access in Python, with a torch DataLoader
(`per_access.py`), (b) the plain reader over shards and (c) DALI, on real photographs, with all augmentation and masking
on. Each measurement is a process of its own; rounds alternate between the ways, so that a drift of the machine's speed
meets all of them.

    python benchmarks/loader.py [--sizes 256 512] [--sources 640x480 2048x1024] [--rounds 5] [--seconds 4] [--cores 2]
                                [--output loader.json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from loader_split import split
from loader_tables import tables
from loader_ways import (
    BATCH,
    DALI,
    DALI_GPU,
    NUM_VIEWS,
    PER_ACCESS,
    PLAIN,
    Source,
    Task,
    calibrate,
    make_source,
    measure,
)
from machine import machine, versions

FOLDERS = {
    "640x480": ["coco_things/train/images", "coco_stuff/train/images"],
    "2048x1024": ["cityscapes/train/images"],
}
"""Below VICE_DATA: photographs of these sizes."""


def in_own_process(function: Callable, *given: Any) -> Any:
    """Call a function in a new process and give back its result."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def tasks(sources: dict[str, Source], given: argparse.Namespace, ways: list[str], turn: int) -> Iterator[dict]:
    """What one round measures; every round begins with another way."""
    ways = ways[turn % len(ways) :] + ways[: turn % len(ways)]
    for name in sources:
        for size in given.sizes:
            for num_cores in sorted({1, given.cores}):
                for way in ways:
                    if way != DALI_GPU or num_cores == given.cores:
                        yield {"source": name, "size": size, "cores": num_cores, "way": way}


def run_round(sources: dict[str, Source], given: argparse.Namespace, ways: list[str], turn: int) -> Iterator[dict]:
    """Measure every way once."""
    for task in tasks(sources, given, ways, turn):
        cores = given.on[: task["cores"]]
        what = Task(task["way"], sources[task["source"]], task["size"], cores, given.seconds)
        found = {"round": turn, **task, **in_own_process(measure, what)}
        print(
            f"round {turn}  {task['source']:>9s}  {task['size']}  {task['cores']} cores  {task['way']:24s} "
            f"{found['views_per_second']:8.1f} views/s",
            file=sys.stderr,
        )
        yield found


def run_splits(sources: dict[str, Source], given: argparse.Namespace) -> list[dict]:
    """What the time of the readers goes to, on one core: medians of the rounds; of the slow one a single round."""
    found = []
    for name, source in sources.items():
        for size in given.sizes:
            for way in (PLAIN, DALI):
                task = Task(way, source, size, given.on[:1], given.seconds / 2)
                parts = [in_own_process(split, task) for _ in range(given.split_rounds if way == DALI else 1)]
                median = {part: statistics.median(one[part] for one in parts) for part in parts[0]}
                found.append({"source": name, "size": size, "way": way, "ms_per_view": median, "rounds": parts})
                print(f"split  {name}  {size}  {way}", file=sys.stderr)
    return found


def run(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, as it goes into the JSON file."""
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    sources = {}
    for name in given.sources:
        width, height = map(int, name.split("x"))
        folders = [given.data / one for one in FOLDERS[name]]
        sources[name] = in_own_process(make_source, folders, width, height, folder / name)
    found = {"machine": in_own_process(machine), "versions": versions()}
    ways = [PER_ACCESS, PLAIN, DALI] + ([DALI_GPU] if found["machine"]["gpu"] else [])
    calibration, measured = [], []
    for turn in range(given.rounds):
        # on every round, as the core's speed may drift
        calibration.append(in_own_process(calibrate, next(iter(sources.values())), given.on[0]))
        measured += run_round(sources, given, ways, turn)
    settings = {"views": NUM_VIEWS, "pictures a batch": BATCH, "seconds": given.seconds, "rounds": given.rounds}
    found |= {"date": started, "settings": settings, "slic_ms": calibration, "measured": measured}
    return found | {"splits": run_splits(sources, given) if given.split_rounds else []}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("VICE_DATA", Path(__file__).parents[2] / "shared/data"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="sides of a view in pixels")
    parser.add_argument("--sources", nargs="+", choices=list(FOLDERS), default=list(FOLDERS), help="sizes of pictures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--split-rounds", type=int, default=3, help="rounds for what the time goes to; 0 leaves it out")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--cores", type=int, default=2, help="beside one core, also measure on so many")
    parser.add_argument("--data", type=Path, default=data, help="folder of the photographs")
    parser.add_argument("--output", type=Path, help="write every round's numbers here, as JSON")
    given = parser.parse_args()
    given.on = sorted(os.sched_getaffinity(0))[: given.cores]
    if len(given.on) < given.cores:
        parser.error(f"--cores {given.cores}: only {len(given.on)} here")
    return given


def main() -> None:
    given = parsed()
    with tempfile.TemporaryDirectory() as folder:
        found = run(given, Path(folder))
    print(tables(found))
    if given.output:
        given.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

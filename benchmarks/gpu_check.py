"""All checks and benchmarks that need an NVIDIA GPU, in one command of under eight minutes: `make gpu-check`.

It runs with any interpreter that has the packages of its rows: no installation, no network, no Ray. A row whose
packages or GPU are missing says "not measured"; one that fails says why, and the command ends with 1.

    python benchmarks/gpu_check.py [--output gpu-check] [--shards FOLDER] [--seconds 15]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

from machine import PROJECT, data_folder, machine, make_importable, versions

SOURCES = ("640x480", "2048x1024")
NUM_VIEWS, BATCH = 5, 16
TRAIN_BATCH = 32
"""Pictures a step of training: as many as one GPU has room for at 512²."""

Shards = Callable[[str], Path]
"""Gives the folder of shards with sources of a size."""


class Measured(NamedTuple):
    """What a check found."""

    found: str
    details: dict


class Check(NamedTuple):
    """One row of the table."""

    what: str
    wanted: str
    work: Callable[[Shards], Measured]


def gpu_tests(_: Shards) -> Measured:
    """All tests that are marked `gpu`."""
    import pytest  # noqa: F401

    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-o", "addopts=--import-mode=importlib", "tests"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=240)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]]
    if done.returncode:
        raise RuntimeError("; ".join([line for line in lines if line.startswith(("FAILED", "ERROR"))][:5] + lines[-1:]))
    return Measured(lines[-1].strip("= "), {"output": lines[-20:]})


def loader_speed(shards: Shards, *, source: str, size: int, seconds: float) -> Measured:
    """Views a second of the DALI loader alone, and the GPU memory it takes."""
    import torch

    from vice.pipeline.loader.loader import ViewLoader
    from vice.pipeline.loader.settings import ViewSettings
    from vice.pipeline.shards import Shards as OpenShards

    threads = min(16, len(os.sched_getaffinity(0)))
    opened, views = OpenShards(shards(source)), ViewSettings(num_views=NUM_VIEWS, size=size)
    free, _ = torch.cuda.mem_get_info()
    loader = ViewLoader(opened, views, global_batch=BATCH, device="cuda", num_threads=threads)
    for _ in range(10):
        next(loader)
    torch.cuda.synchronize()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(loader)
        steps += 1
    torch.cuda.synchronize()
    rate = steps * BATCH * NUM_VIEWS / (time.perf_counter() - start)
    taken = (free - torch.cuda.mem_get_info()[0]) / 2**20
    details = {"views_per_second": rate, "gpu_memory_mib": taken, "threads": threads, "batch": BATCH}
    return Measured(f"{rate:.0f} views/s, {taken:.0f} MiB of GPU memory", details)


def training(shards: Shards, *, preset: str, steps: int = 120) -> Measured:
    """Views a second from shards to weights and the share of waiting for data, over the second half of some steps."""
    import torch

    from vice.pipeline.shards import Shards as OpenShards
    from vice.train.config_files import load_config
    from vice.train.distributed import Process
    from vice.train.loop import train

    opened = OpenShards(shards(SOURCES[0]))
    overrides = [
        "model.weights=none",
        # what there are shards of here
        "views.regions=slic:20",
        f"global_batch={TRAIN_BATCH}",
        f"epochs={steps * TRAIN_BATCH / len(opened)}",
        f"log_every={steps // 2}",
        f"checkpoint_every={steps}",
        "pictures_every=0",
    ]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        train(load_config(preset, overrides), opened, Path(folder), Process(0, 1, device))
        line = json.loads((Path(folder) / "metrics.jsonl").read_text().splitlines()[-1])
    line["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    waiting = f"{line['data_wait']:.1%} of it waiting for data"
    return Measured(f"{line['views_per_second']:.0f} views/s, {waiting}", line)


def step_share(shards: Shards, *, size: int) -> Measured:
    """What region pooling, assignment and loss add to a step."""
    import torch
    from train_step import measure, measure_pooling

    options = {"size": size, "pictures": BATCH, "rounds": 10, "device": torch.device("cuda")}
    found = measure(shards(SOURCES[0]), **options)
    pooling = {
        regions: measure_pooling(shards(SOURCES[0]), regions=regions, **options) for regions in ("slic:20", "pixel")
    }
    return Measured(f"{found['share']:.1%} of {found['whole'] * 1e3:.0f} ms", {**found, "pooling": pooling})


def checks(seconds: float) -> list[Check]:
    """All rows, in the order of the table."""
    found = [Check("tests marked gpu", "all pass", gpu_tests)]
    for source in SOURCES:
        for size in (256, 512):
            wanted = "at least 2000 views/s" if (source, size) == (SOURCES[0], 512) else ""
            work = partial(loader_speed, source=source, size=size, seconds=seconds)
            found.append(Check(f"loader alone, {size}², from {source}", wanted, work))
    for size in (256, 512):
        work = partial(step_share, size=size)
        found.append(Check(f"pooling, assignment and loss, share of a step at {size}²", "at most 5 %", work))
    for preset, wanted in (("cityscapes-low", ""), ("cityscapes-high", "at least 250 views/s, ")):
        work = partial(training, preset=preset)
        found.append(Check(f"training of {preset} from shards", f"{wanted}waiting under 2 %", work))
    return found


def attempt(check: Check, shards: Shards) -> tuple[Measured, bool]:
    """What a check measured, or why not; and whether it went well."""
    print(f"==> {check.what}", file=sys.stderr, flush=True)
    try:
        return check.work(shards), True
    except ModuleNotFoundError as error:
        return Measured(f"not measured (no package {error.name})", {}), True
    except Exception as error:
        return Measured(f"failed: {type(error).__name__}: {error}", {}), False


class Sharder:
    """Makes shards of photographs (or of drawn pictures where there are none) in this process, once, when asked."""

    def __init__(self, folder: Path, ready: Path | None):
        self._folder, self._ready = folder, ready

    def __call__(self, source: str) -> Path:
        """The folder of shards with sources of a size (`640x480`)."""
        if self._ready is not None:
            return self._ready / source
        out = self._folder / f"{source}.shards"
        if not out.exists():
            self._make(source, out)
        return out

    def _make(self, source: str, out: Path) -> None:
        sys.path.insert(0, str(PROJECT / "tests"))
        import cv2
        from sharding import blobs, jpeg, shard_serially

        from vice.data_specs.shard_format import PrepSettings

        width, height = map(int, source.split("x"))
        pictures = self._folder / source
        pictures.mkdir()
        for path in sorted(data_folder().glob("c*/**/*.jpg")):
            if len(list(pictures.iterdir())) < 12 and cv2.imread(str(path)).shape[:2] == (height, width):
                (pictures / path.name).symlink_to(path.resolve())
        if not any(pictures.iterdir()):
            for number in range(8):
                (pictures / f"{number}.jpg").write_bytes(jpeg(blobs(width, height, number)))
        shard_serially(pictures, out, PrepSettings())


def report(found: list[tuple[Check, Measured]], output: Path, seconds: float) -> str:
    """Write the dated JSON and table; returns the table."""
    output.mkdir(parents=True, exist_ok=True)
    made_by = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "seconds": round(seconds),
    }
    rows = [
        {"what": check.what, "wanted": check.wanted, "measured": measured.found, **measured.details}
        for check, measured in found
    ]
    head = f"{made_by['date']}; {made_by['machine']}; {made_by['versions']}; {made_by['seconds']} s in all"
    lines = [f"| {row['what']} | {row['wanted']} | {row['measured']} |" for row in rows]
    table = "\n".join([head, "", "| what | wanted | measured |", "|---|---|---|", *lines])
    (output / f"{made_by['date']}.json").write_text(json.dumps(made_by | {"rows": rows}, indent=1))
    (output / f"{made_by['date']}.md").write_text(table + "\n")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu-check"), help="folder of the dated JSON and table")
    parser.add_argument("--shards", type=Path, help=f"folder with ready shards in {' and '.join(SOURCES)}")
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement of the loader")
    given = parser.parse_args()
    start, found, well = time.perf_counter(), [], True
    make_importable()
    has_gpu = machine()["gpu"] is not None
    with tempfile.TemporaryDirectory() as folder:
        shards = Sharder(Path(folder), given.shards)
        for check in checks(given.seconds):
            measured, good = attempt(check, shards) if has_gpu else (Measured("not measured (no NVIDIA GPU)", {}), True)
            found.append((check, measured))
            well &= good
    print(report(found, given.output, time.perf_counter() - start))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()

"""Speed of the Ray job with one and two workers, against a plain loop over the same functions; and of OpenCV's SLIC.

Rates are those once started: pictures of the shards between the fourth and the fourth last to be complete, over the
time between their records; at both ends a job has as much in flight. Rounds alternate between the kinds, so that a
drift of the machine's speed meets all of them.

    python benchmarks/prep.py [--pictures FOLDER] [--num 240] [--rounds 5] [--kinds ...] [--output prep.json]
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
from pathlib import Path

from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings

PER_SHARD = 8
KINDS = (
    *("plain loop", "Ray, 1 worker", "Ray, 2 workers", "2 plain loops"),
    *("plain loop, opencv-slic", "Ray, 1 worker, opencv-slic"),
)


def settings(kind: str) -> PrepSettings:
    """Of a kind of run: one layer of 20 pixels, 10 iterations."""
    layer = RegionLayer.from_text("opencv-slic:20" if kind.endswith("opencv-slic") else "slic:20")
    return PrepSettings(samples_per_shard=PER_SHARD, regions=[layer])


def plain_loop(source: Path, out: Path, kind: str) -> None:
    """Make all shards in this process, one input after the other."""
    import cv2

    from vice.data_specs.dataset import load_dataset
    from vice.pipeline.prep.part import make_part
    from vice.pipeline.prep.plan import make_plan
    from vice.pipeline.prep.shard import write_shard
    from vice.pipeline.storage.opening import open_storage

    cv2.setNumThreads(1)
    plan = make_plan(source, settings(kind), load_dataset("image_folder"))
    storage = open_storage(out)
    for number in plan.numbers:
        parts = [make_part(plan.inputs_of(number), plan.recipe)]
        write_shard(storage, plan.shard(number), parts, plan.settings_fingerprint)


def ray_job(source: Path, out: Path, kind: str) -> None:
    """The real job, in this process and a Ray of its own."""
    from vice.data_specs.dataset import load_dataset
    from vice.pipeline.prep.job import shard_dataset

    shard_dataset(source, out, settings(kind), load_dataset("image_folder"), workers=int(kind[5]))


def run(kind: str, source: Path, out: Path) -> float:
    """One measurement in new processes: pictures per second."""
    outs, jobs = [out], []
    if kind == "2 plain loops":
        outs = [out / "a", out / "b"]
    for one in outs:
        work = plain_loop if "plain" in kind else ray_job
        jobs.append(multiprocessing.get_context("spawn").Process(target=work, args=(source, one, kind)))
        jobs[-1].start()
    for job in jobs:
        job.join()
        if job.exitcode != 0:
            sys.exit(f"{kind} failed")
    return sum(rate(one) for one in outs)


def rate(out: Path) -> float:
    """Pictures per second in the middle of a job, from the times of its shards' records."""
    times = sorted(path.stat().st_mtime for path in out.glob("shards/*.json"))[3:-3]
    return (len(times) - 1) * PER_SHARD / (times[-1] - times[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("VICE_DATA", Path(__file__).parents[2] / "shared/data")) / "camvid/train/images"
    parser.add_argument("--pictures", type=Path, default=default)
    parser.add_argument("--num", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="all by default")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    kinds = given.kinds or KINDS
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        paths = sorted(given.pictures.iterdir())
        for number in range(given.num // PER_SHARD * PER_SHARD):
            path = paths[number % len(paths)]
            (source / f"{number:05d}-{path.name}").symlink_to(path.resolve())
        for number in range(-1, given.rounds):
            for kind in kinds:
                found = run(kind, source, Path(folder) / f"{kind} {number}")
                print(f"round {number:2d}  {kind:16s} {found:6.2f} pictures/s", file=sys.stderr)
                if number >= 0:  # the round before the first warms up disk and caches
                    rates[kind].append(found)
    ratios = {
        kind: statistics.median(b / a for a, b in zip(rates[kinds[0]], rates[kind], strict=True)) for kind in kinds
    }
    print("| | pictures/s, median (min–max) | against the first |\n|---|---|---|")
    for kind, found in rates.items():
        spread = f"{min(found):.1f}–{max(found):.1f}"
        print(f"| {kind} | {statistics.median(found):.1f} ({spread}) | {ratios[kind]:.2f}× |")
    if given.output:
        given.output.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "rates": rates, "ratios": ratios}))


if __name__ == "__main__":
    main()

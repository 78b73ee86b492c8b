"""Speed of the Ray job with one and two workers, against a plain loop over the same functions; and of OpenCV's SLIC.

Rates are those once started: pictures of the shards between the fourth and the fourth last to be complete (of fewer
than ten shards: the second and the second last), over the time between their records; at both ends a job has as much in
flight. CPU time is that of all processes of the machine, from start to end. Rounds alternate between the kinds, so that
a drift of the machine's speed meets all of them.

    python benchmarks/prep.py [--pictures FOLDER] [--num 240] [--per-shard 8] [--rounds 5] [--kinds ...] [--output FILE]
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
from typing import NamedTuple

from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings

KINDS = (
    *("plain loop", "without Ray", "Ray, 1 worker", "Ray, 2 workers", "2 plain loops"),
    *("plain loop, opencv-slic", "Ray, 1 worker, opencv-slic"),
)


class Measured(NamedTuple):
    """One run."""

    rate: float
    """Pictures per second."""
    cpu: float
    """Milliseconds of CPU time per picture."""


def settings(kind: str, per_shard: int) -> PrepSettings:
    """Of a kind of run: one layer of 20 pixels, 10 iterations."""
    layer = RegionLayer.from_text("opencv-slic:20" if kind.endswith("opencv-slic") else "slic:20")
    return PrepSettings(samples_per_shard=per_shard, regions=[layer])


def plain_loop(source: Path, out: Path, kind: str, per_shard: int) -> None:
    """Make all shards in this process, one input after the other."""
    import cv2

    from vice.data_specs.dataset import load_dataset
    from vice.pipeline.prep.part import make_part
    from vice.pipeline.prep.plan import make_plan
    from vice.pipeline.prep.shard import write_shard
    from vice.pipeline.storage.opening import open_storage

    cv2.setNumThreads(1)
    plan = make_plan(source, settings(kind, per_shard), load_dataset("image_folder"))
    storage = open_storage(out)
    for number in plan.numbers:
        parts = [make_part(plan.inputs_of(number), plan.recipe)]
        write_shard(storage, plan.shard(number), parts, plan.settings_fingerprint)


def job(source: Path, out: Path, kind: str, per_shard: int) -> None:
    """The real job, in this process and a Ray of its own, or without one."""
    from vice.data_specs.dataset import load_dataset
    from vice.pipeline.prep.job import shard_dataset

    workers = 0 if kind == "without Ray" else int(kind[5])
    shard_dataset(source, out, settings(kind, per_shard), load_dataset("image_folder"), workers=workers)


def run(kind: str, source: Path, out: Path, num: int, per_shard: int) -> Measured:
    """One measurement in new processes."""
    outs, jobs, before = [out], [], busy_seconds()
    if kind == "2 plain loops":
        outs = [out / "a", out / "b"]
    for one in outs:
        work = plain_loop if "plain" in kind else job
        jobs.append(multiprocessing.get_context("spawn").Process(target=work, args=(source, one, kind, per_shard)))
        jobs[-1].start()
    for process in jobs:
        process.join()
        if process.exitcode != 0:
            sys.exit(f"{kind} failed")
    cpu = 1000 * (busy_seconds() - before) / (num * len(outs))
    return Measured(sum(rate(one, per_shard) for one in outs), cpu)


def rate(out: Path, per_shard: int) -> float:
    """Pictures per second in the middle of a job, from the times of its shards' records."""
    times = sorted(path.stat().st_mtime for path in out.glob("shards/*.json"))
    ends = 3 if len(times) >= 10 else 1
    times = times[ends:-ends]
    return (len(times) - 1) * per_shard / (times[-1] - times[0])


def busy_seconds() -> float:
    """CPU time of all processes since the machine started."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("VICE_DATA", Path(__file__).parents[2] / "shared/data")) / "camvid/train/images"
    parser.add_argument("--pictures", type=Path, default=default)
    parser.add_argument("--num", type=int, default=240)
    parser.add_argument("--per-shard", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="all by default")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    kinds = given.kinds or KINDS
    found: dict[str, list[Measured]] = {kind: [] for kind in kinds}
    num = given.num // given.per_shard * given.per_shard
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        paths = sorted(given.pictures.iterdir())
        for number in range(num):
            path = paths[number % len(paths)]
            (source / f"{number:05d}-{path.name}").symlink_to(path.resolve())
        for number in range(-1, given.rounds):
            for kind in kinds:
                one = run(kind, source, Path(folder) / f"{kind} {number}", num, given.per_shard)
                print(f"round {number:2d}  {kind:16s} {one.rate:6.2f} pictures/s  {one.cpu:5.1f} ms", file=sys.stderr)
                if number >= 0:  # the round before the first warms up disk and caches
                    found[kind].append(one)
    print("| | pictures/s, median (min–max) | against the first | CPU ms a picture |\n|---|---|---|---|")
    for kind, runs in found.items():
        rates, cpu = [one.rate for one in runs], statistics.median(one.cpu for one in runs)
        ratio = statistics.median(b.rate / a.rate for a, b in zip(found[kinds[0]], runs, strict=True))
        spread = f"{min(rates):.1f}–{max(rates):.1f}"
        print(f"| {kind} | {statistics.median(rates):.1f} ({spread}) | {ratio:.2f}× | {cpu:.1f} |")
    if given.output:
        given.output.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "runs": found}))


if __name__ == "__main__":
    main()

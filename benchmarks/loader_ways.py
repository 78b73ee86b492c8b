"""The ways to make views that `benchmarks/loader.py` compares; each is measured in a process of its own."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PER_ACCESS, PLAIN, DALI, DALI_GPU = "(a) per access", "(b) plain reader", "(c) DALI", "(c) DALI on the GPU"
READERS = {PLAIN: "plain", DALI: "dali", DALI_GPU: "dali"}
NUM_VIEWS = 5
BATCH = 4
"""Pictures a batch."""


class Source(NamedTuple):
    """Pictures of one size."""

    shards: Path
    pictures: Path
    """The pictures' files, the same bytes as in the shards."""


class Task(NamedTuple):
    """One measurement."""

    way: str
    source: Source
    size: int
    """Side of a view in pixels."""
    cores: list[int]
    seconds: float


def make_source(folders: list[Path], width: int, height: int, out: Path) -> Source:
    """Shard the pictures of exactly this size with the usual settings."""
    from PIL import Image

    from vice.data_specs.dataset import load_dataset
    from vice.data_specs.shard_format import PrepSettings, picture_member
    from vice.pipeline.prep.job import shard_dataset
    from vice.pipeline.shards import Shards

    source = Source(out / "shards", out / "pictures")
    originals = out / "originals"
    originals.mkdir(parents=True)
    source.pictures.mkdir()
    for path in sorted(path for folder in folders for path in folder.glob("*.jpg")):
        if Image.open(path).size == (width, height):
            (originals / path.name).symlink_to(path.resolve())
    shard_dataset(originals, source.shards, PrepSettings(), load_dataset("image_folder"), workers=1)
    shards = Shards(source.shards)
    for number, key in enumerate(shards.keys):
        (source.pictures / f"{key}.jpg").write_bytes(shards.read(number, [picture_member(shards.record.settings)])[0])
    return source


def calibrate(source: Source, core: int) -> dict[str, float]:
    """Milliseconds of OpenCV's SLIC on this core: 512 × 512, regions of 20 pixels, 5 and 10 iterations."""
    cv2, _ = pinned([core])
    picture = cv2.resize(cv2.imread(str(min(source.pictures.iterdir()))), (512, 512))

    def slic(iterations: int) -> None:
        made = cv2.ximgproc.createSuperpixelSLIC(picture, cv2.ximgproc.SLIC, region_size=20, ruler=10.0)
        made.iterate(iterations)

    return {str(iterations): 1e3 * median_seconds(lambda: slic(iterations), 9) for iterations in (5, 10)}  # noqa: B023


def measure(task: Task) -> dict[str, Any]:
    """Speed and memory of one way, with a thread or process for each of the task's cores.

    Returns:
        `views_per_second`; `peak_mb`, of the process and each of its workers; `before_mb`, of the process before the
        loader was made; `ms_per_view` of each stage where the way tells; `gpu_mb` where it runs there.
    """
    _, torch = pinned(task.cores)
    if task.way != PER_ACCESS:
        __import__("nvidia.dali")
    before, free = _peak_mb(resource.RUSAGE_SELF), _free_gpu_mb(task.way)
    batches = _per_access(task) if task.way == PER_ACCESS else reader(task)
    found, stages = speed(batches, task), {}
    if task.way == PER_ACCESS:
        stages, batches = found.pop("stages"), None  # the workers end, so that their memory can be told
    peaks = [_peak_mb(resource.RUSAGE_SELF)]
    peaks += [_peak_mb(resource.RUSAGE_CHILDREN)] * (len(task.cores) if task.way == PER_ACCESS else 0)
    found |= {"peak_mb": peaks, "before_mb": before, "ms_per_view": stages}
    if task.way == DALI_GPU:
        found |= {"gpu_mb": free - _free_gpu_mb(task.way), "gpu": torch.cuda.get_device_name()}
    return found


def speed(batches: Iterator, task: Task) -> dict[str, Any]:
    """Views a second after some batches to warm up; with worker processes, whole rounds of them.

    Returns:
        `views_per_second`; `stages` where the way tells, as `ms_per_view` of `measure`.
    """
    import torch

    in_turn = len(task.cores)
    settle = torch.cuda.synchronize if task.way == DALI_GPU else lambda: None
    for _ in range(2 * in_turn if task.way == PER_ACCESS else 4):
        next(batches)
    settle()
    start, count, seconds = time.perf_counter(), 0, []
    while time.perf_counter() - start < task.seconds or count % in_turn:
        batch = next(batches)
        count += 1
        seconds += batch.seconds if task.way == PER_ACCESS else []
    settle()
    num_views = count * BATCH * NUM_VIEWS
    found: dict[str, Any] = {"views_per_second": num_views / (time.perf_counter() - start)}
    if task.way == PER_ACCESS:
        found["stages"] = _stages(seconds, in_turn / found["views_per_second"])
    return found


def _stages(seconds: list[dict[str, float]], of_view: float) -> dict[str, float]:
    """Milliseconds of a core for each view; what the stages leave is collation, transport, and waiting."""
    stages = {name: statistics.mean(one[name] for one in seconds) / NUM_VIEWS * 1e3 for name in seconds[0]}
    return stages | {"collation, transport, waiting": of_view * 1e3 - sum(stages.values())}


def _per_access(task: Task) -> Iterator:
    from per_access import per_access_loader

    paths = sorted(task.source.pictures.iterdir())
    return per_access_loader(paths, size=task.size, batch_size=BATCH, num_workers=len(task.cores))


def reader(task: Task, **changed: Any) -> Iterator:
    """Batches of the project's loader, with all augmentation and masking unless settings are changed."""
    from vice.pipeline.loader.loader import ViewLoader
    from vice.pipeline.loader.settings import ViewSettings
    from vice.pipeline.shards import Shards

    return ViewLoader(
        Shards(task.source.shards),
        ViewSettings.model_validate({"num_views": NUM_VIEWS, "size": task.size, **changed}),
        global_batch=BATCH,
        device="cuda" if task.way == DALI_GPU else "cpu",
        reader=READERS[task.way],
        num_threads=len(task.cores),
    )


def median_seconds(work: Callable[[], object], times: int) -> float:
    """Median CPU time of some repetitions after a first one."""
    work()
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return statistics.median(found)


def pinned(cores: list[int]) -> tuple[Any, Any]:
    """OpenCV and torch, on these cores, with a thread for each; libraries' threads are told when they are imported."""
    os.sched_setaffinity(0, cores)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(len(cores))
    import cv2
    import torch

    cv2.setNumThreads(len(cores))
    torch.set_num_threads(len(cores))
    return cv2, torch


def _peak_mb(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def _free_gpu_mb(way: str) -> float:
    """Free memory of the GPU, whoever uses it: DALI's is not in torch's count."""
    if way != DALI_GPU:
        return 0.0
    import torch

    return torch.cuda.mem_get_info()[0] / 2**20

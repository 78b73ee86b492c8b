"""What region pooling, assignment and loss add to a training step, and what pooling takes, by time and by memory.

    python benchmarks/train_step.py --shards FOLDER [--pictures 1] [--rounds 5]

A whole step (without the update) is compared with the bare encoder and decoder, forward and backward on the same
batch, in turn; medians over rounds after a warm-up round, on the cores (or the GPU) that the process may use. ResNet-18
with FPN at 256² and with DeepLabV3+ at 512², 5 views, D 128, K 128, a full queue of 5,000. FOLDER holds shards with
pictures of 512 px or more and the layer slic:20.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine, make_importable, versions

NUM_VIEWS = 5
CASES = {256: ("fpn", 32), 512: ("deeplabv3plus", 8)}
"""View size to decoder and output stride, as the paper's low and high resolution."""


def measure(shards: Path, *, size: int, pictures: int, rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of a whole step and of its parts; `share` is what the whole has more than the bare network.

    Args:
        shards: folder of shards.
        size: of the views.
        pictures: of the batch.
        rounds: measured, after one that is not.
        device: where.
    """
    from vice.train.step import compute_gradient

    state, batch = _ready(shards, size, pictures, device)
    gradient = torch.randn_like(state.model.dense.raw(batch.images.flatten(0, 1)).detach())

    def bare() -> None:
        state.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=state.config.precision == "bf16"):
            maps = state.model.dense.raw(batch.images.flatten(0, 1))
        maps.backward(gradient)

    parts = {"bare": bare, "whole": lambda: compute_gradient(state, batch)}
    seconds = _in_turn(parts, rounds, device)
    return {**seconds, "share": 1 - seconds["bare"] / seconds["whole"], "regions": float(batch.num_regions.sum())}


def measure_pooling(
    shards: Path, *, size: int, regions: str, pictures: int, rounds: int, device: torch.device
) -> dict[str, float]:
    """Seconds of pooling, forward and backward, a view; and the peak of memory that it adds, in MiB, of all views."""
    from vice.train.network.pooling import pool_regions, region_weights

    _, batch = _ready(shards, size, pictures, device, regions=regions)
    most, cells = batch.region_ids.shape[1], size // 4
    maps = torch.randn(*batch.images.shape[:2], cells, cells, 128, device=device).permute(0, 1, 4, 2, 3)
    maps.requires_grad_()

    def pool() -> None:
        maps.grad = None
        pooled = pool_regions(maps, region_weights(batch.regions, most, (cells, cells)), most)
        pooled.sum().backward()

    seconds = _in_turn({"pool": pool}, rounds, device)["pool"]
    maps.grad = None
    views = NUM_VIEWS * pictures
    return {"per_view": seconds / views, "peak_mib": _peak(pool, device) / 2**20, "regions": float(most)}


def _ready(shards: Path, size: int, pictures: int, device: torch.device, regions: str = "slic:20"):
    """A state with a full queue, and a batch."""
    from vice.pipeline.shards import Shards
    from vice.train.config import TrainConfig
    from vice.train.distributed import Process
    from vice.train.state import new_state

    decoder, stride = CASES[size]
    settings = {
        "name": "train-step",
        "model": {"encoder": "resnet18", "decoder": decoder, "output_stride": stride},
        "views": {"num_views": NUM_VIEWS, "size": size, "regions": regions},
        "global_batch": pictures,
        "epochs": 1000,
        "precision": "bf16" if device.type == "cuda" else "fp32",
    }
    state = new_state(TrainConfig.model_validate(settings), Shards(shards), Process(0, 1, device))
    queue = state.assignment.queue
    queue.push(torch.nn.functional.normalize(torch.randn(queue.length, queue.rows.shape[1], device=device), dim=1))
    return state, next(state.loader)


def _in_turn(works: dict[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each, measured one after another in every round, after a round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            _wait(device)
            started = time.perf_counter()
            work()
            _wait(device)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(work: Callable[[], None], device: torch.device) -> int:
    """Bytes that some work has in memory at most beyond what was there before: allocated on a GPU, else resident."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    # what earlier rounds freed goes back to the system; 5 sets the peak of the resident set to its present size
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    work()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, help="folder of shards")
    parser.add_argument("--pictures", type=int, default=1, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(machine()["cores"])
    print(machine(), versions())
    options = {"pictures": given.pictures, "rounds": given.rounds, "device": device}
    print("| views | regions | bare network, s | whole step, s | pooling + assignment + loss |\n|---|---|---|---|---|")
    for size, (decoder, _) in CASES.items():
        found = measure(given.shards, size=size, **options)
        row = f"| {NUM_VIEWS} of {size}², {decoder} | {found['regions']:.0f} | {found['bare']:.3f} |"
        print(row, f"{found['whole']:.3f} | {found['share']:.1%} of the step |", flush=True)
    print("\n| pooling | rows a view | ms a view | peak memory, MiB |\n|---|---|---|---|")
    for size in CASES:
        for regions in ("slic:20", "grid:20", "pixel"):
            found = measure_pooling(given.shards, size=size, regions=regions, **options)
            row = f"| {size}², {regions} | {found['regions']:.0f} | {found['per_view'] * 1e3:.1f} |"
            print(row, f"{found['peak_mib']:.0f} |", flush=True)


if __name__ == "__main__":
    make_importable()
    main()

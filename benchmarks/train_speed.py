"""Views per second of training on a CPU: this checkout against another one, in turn, pinned to one core.

    git worktree add OLD COMMIT
    python benchmarks/train_speed.py --shards FOLDER --against OLD [--rounds 5] [--core 1]

Both train the network that `camvid-cpu` had at first (RegNetX-200MF from random weights, FPN, two views of 96² of each
of four pictures) by AdamW, in processes of their own, with loader, assignment, loss and update; this checkout also
trains it with more pictures per step. A round is 60 steps after 20 that do not count; medians over rounds, and ratios.
FOLDER holds shards with the layer slic:20.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORK = {"encoder": "regnetx_002", "decoder": "fpn", "decoder_channels": 64, "embedding_dim": 128, "centre": True}
VIEWS = {"num_views": 2, "size": 96, "resize": [1.0, 2.0], "regions": "slic:20", "mask_share": 0.1}
CONFIG = {
    "name": "speed",
    "model": NETWORK,
    "views": VIEWS,
    "optimiser": {"name": "adamw", "learning_rate": 2e-3, "weight_decay": 0.01},
    "global_batch": 4,
    "epochs": 1000,
}
OLD_ASSIGNMENT = {"num_concepts": 64, "queue_length": 2000, "freeze_concepts_steps": 50}
NEW_ASSIGNMENT = {"num_concepts": 64, "swav": {"queue_length": 2000}, "freeze_concepts_steps": 50}
WARM_UP, STEPS = 20, 60


def work(config: Path, shards: str) -> None:
    """Train in this process and print the views per second."""
    import torch

    from vice.pipeline.shards import Shards
    from vice.train.config import TrainConfig
    from vice.train.distributed import Process
    from vice.train.optimiser import learning_rate
    from vice.train.state import new_state
    from vice.train.step import compute_gradient, update

    torch.set_num_threads(1)
    settings = TrainConfig(**json.loads(config.read_text()))
    state = new_state(settings, Shards(shards), Process(0, 1, torch.device("cpu")))
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            started = time.perf_counter()
        compute_gradient(state, next(state.loader))
        rate = learning_rate(step, 1000, peak=settings.peak_learning_rate, config=settings.optimiser)
        update(state, rate)
        state.step += 1
    seconds = time.perf_counter() - started
    print(json.dumps(STEPS * settings.global_batch * settings.views.num_views / seconds))


def measured(checkout: Path, config: dict, given: argparse.Namespace) -> float:
    """Views per second of a checkout, in a process that imports it under the name `vice`."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "vice"
        package.mkdir()
        for name in ("data_specs", "pipeline", "train", "evaluate"):
            (package / name).symlink_to(checkout.resolve() / name)
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, __file__, "--worker", str(path), "--shards", given.shards]
        environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
        printed = subprocess.run(
            ["taskset", "-c", str(given.core), *command], env=environment, capture_output=True, text=True, check=True
        )
        return json.loads(printed.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.shards)
        return
    here = Path(__file__).resolve().parents[1]
    cases = {
        "before": (given.against, {**CONFIG, "assignment": OLD_ASSIGNMENT}),
        "now": (here, {**CONFIG, "assignment": NEW_ASSIGNMENT}),
        "now, 16 pictures per step": (here, {**CONFIG, "assignment": NEW_ASSIGNMENT, "global_batch": 16}),
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(given.rounds):
        for name, (checkout, config) in cases.items():
            found[name].append(measured(checkout, config, given))
    base = statistics.median(found["before"])
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"{name}: {middle:.1f} views/s ({min(values):.1f} to {max(values):.1f}), {middle / base:.2f} times")


if __name__ == "__main__":
    main()

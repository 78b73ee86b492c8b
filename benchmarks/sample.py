"""CPU time of one sample, earlier and now in one run: 640×480, and 24 megapixels with `--short-side 480`.

Earlier: Canny of the picture instead of its gradients, and JPEGs always decoded at their full size. Both take turns on
one core, so that a drift of the machine's speed meets both; times are medians, ratios those of neighbouring calls.

    python benchmarks/sample.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from machine import data_folder, machine

from vice.data_specs.dataset import load_dataset
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep import sample
from vice.pipeline.prep.geometry import Geometry
from vice.pipeline.prep.plan import Plan, make_plan
from vice.pipeline.prep.rejection import Rejection

NUM_SMALL, NUM_LARGE = 6, 2


def earlier_density_map(picture: np.ndarray, stride: int) -> np.ndarray:
    """The density as it was computed first, to the same bytes."""
    blurred = cv2.GaussianBlur(picture, ksize=(3, 3), sigmaX=0)
    edges = cv2.Canny(blurred, threshold1=10, threshold2=50, L2gradient=True)
    smooth = cv2.GaussianBlur(cv2.dilate(edges, kernel=np.ones((3, 3), np.uint8)), ksize=(3, 3), sigmaX=0)
    rows, columns = (np.arange(0, length, stride) for length in smooth.shape)
    sums = np.add.reduceat(np.add.reduceat(smooth.astype(np.int64), rows, axis=0), columns, axis=1)
    heights, widths = np.diff(np.append(rows, len(smooth))), np.diff(np.append(columns, smooth.shape[1]))
    density = sums / np.outer(heights, widths) / 255 + 0.005
    return np.clip(np.round(density * 255), 1, 255).astype(np.uint8)


def write_pictures(folder: Path, size: tuple[int, int], number: int) -> Path:
    """Photographs brought to a size, with noise as of a camera, as JPEGs."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(-3, 4, (*size[::-1], 3), np.int16)
    for path in sorted((data_folder() / "cityscapes" / "train" / "images").iterdir())[:number]:
        picture = cv2.resize(cv2.imread(str(path)), size, interpolation=cv2.INTER_CUBIC)
        picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{path.stem}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return folder


def seconds(plan: Plan, number: int) -> float:
    """CPU time of one sample."""
    started = time.process_time()
    result = sample.make_sample(plan.inputs[number], "key", plan.recipe)
    if isinstance(result, Rejection):
        raise SystemExit(result.reason)
    return time.process_time() - started


def row(what: str, plan: Plan, rounds: int) -> str:
    """A line of the table."""
    earlier, now = [], []
    for turn in range(-1, rounds):
        for number in range(len(plan.inputs)):
            with (
                mock.patch.object(sample, "density_map", earlier_density_map),
                mock.patch.object(Geometry, "reduction", 1),
            ):
                before = seconds(plan, number)
            after = seconds(plan, number)
            if turn >= 0:  # the first round compiles and warms up
                earlier.append(before)
                now.append(after)
    ratios = sorted(before / after for before, after in zip(earlier, now, strict=True))
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
    return f"| {what} | {1000 * statistics.median(earlier):.1f} | {1000 * statistics.median(now):.1f} | {spread} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    cv2.setNumThreads(1)
    spec = load_dataset("image_folder")
    with tempfile.TemporaryDirectory() as folder:
        small = write_pictures(Path(folder) / "small", (640, 480), NUM_SMALL)
        large = write_pictures(Path(folder) / "large", (6000, 4000), NUM_LARGE)
        print(machine())
        print("| picture | earlier, ms | now, ms | times as fast (smallest–largest) |\n|---|---|---|---|")
        print(row("640×480", make_plan(small, PrepSettings(), spec), rounds))
        print(row("24 megapixels, `--short-side 480`", make_plan(large, PrepSettings(short_side=480), spec), rounds))


if __name__ == "__main__":
    main()

"""Mean region size per photograph against the size asked, and the time per photograph.

    python benchmarks/region_sizes.py [DATA] [--method slic] [--size 20]

DATA holds the photographs (else VICE_DATA, else ../shared/data). The mean region size of a photograph is
√(width · height / regions), that of a set is the mean over its photographs; "pooled" is √(all pixels / all regions).
Prints a table in Markdown: sizes as shares of the size asked, times of one core.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import cv2
import numpy as np

from vice.data_specs.regions import RegionLayer
from vice.pipeline.prep.regions import region_map

PHOTOGRAPHS = {
    "bsds500/train/images": 20,
    "camvid/train/images": 6,
    "coco_stuff/train/images": 13,
    "coco_things/train/images": 6,
    "cityscapes/train/images": 2,
    "aerial/loveda/images": 1,
    "aerial/potsdam/images": 1,
    "aerial/vaihingen/images": 1,
    "ade20k/images": 3,
}
"""Folder to the number of photographs taken from it, evenly spread."""


def read_photographs(data: Path) -> list[np.ndarray]:
    """The photographs of PHOTOGRAPHS that are there, uint8 [h, w, 3], RGB."""
    pictures = []
    for folder, number in PHOTOGRAPHS.items():
        paths = sorted((data / folder).iterdir()) if (data / folder).is_dir() else []
        chosen = np.linspace(0, len(paths) - 1, min(number, len(paths))).astype(int)
        pictures += [cv2.imread(str(paths[place]), cv2.IMREAD_COLOR_RGB) for place in chosen]
    return pictures


def print_row(layer: RegionLayer, pictures: list[np.ndarray]) -> None:
    counts, seconds = [], []
    for picture in pictures:
        start = time.perf_counter()
        counts.append(int(region_map(picture, layer).max()) + 1)
        seconds.append(time.perf_counter() - start)
    pixels = np.array([picture.shape[0] * picture.shape[1] for picture in pictures])
    shares = np.sqrt(pixels / np.array(counts)) / layer.size
    pooled = np.sqrt(pixels.sum() / sum(counts)) / layer.size
    sizes = " | ".join(f"{share:.3f}" for share in (shares.mean(), pooled, shares.min(), shares.max()))
    print(f"| {layer} | {sizes} | {1000 * np.median(seconds):.0f} | {1000 * max(seconds):.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("VICE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("data", type=Path, nargs="?", default=Path(default))
    parser.add_argument("--method", action="append", choices=["slic", "slico", "opencv-slic", "opencv-slico", "mslic"])
    parser.add_argument("--size", action="append", type=int)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = read_photographs(arguments.data)
    if not pictures:
        parser.error(f"no photographs in {arguments.data}")
    print(f"{len(pictures)} photographs\n\n| layer | set mean | pooled | min | max | median ms | max ms |")
    print("|---" * 7 + "|")
    for method in arguments.method or ["slic", "slico", "mslic"]:
        for size in arguments.size or [8, 16, 20, 32, 40, 64]:
            print_row(RegionLayer(method=method, size=size), pictures)


if __name__ == "__main__":
    main()

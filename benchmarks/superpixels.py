"""Superpixel methods on the same pictures: time of each, ratios to OpenCV's SLIC, and how good they are.

    python benchmarks/superpixels.py --speed [--rounds 5]            pinned to one core; medians of rounds and of ratios
    python benchmarks/superpixels.py --quality --output FOLDER       BSDS500's 200 train pictures, 200 to 1,000 regions
    python benchmarks/superpixels.py --sheet FILE.png                outlines on eight photographs, to look at

The whole path is timed: blur, CIELAB, the method, connected pieces, merging to the number asked; for OpenCV also its
own three calls alone. `fast-slic` is compared where it can be imported. Pictures: ../shared/data, or VICE_DATA.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from machine import data_folder, machine, versions

from vice.data_specs.regions import RegionLayer
from vice.evaluate.regions.measures import achievable_accuracy, boundary_recall, compactness, undersegmentation_error
from vice.pipeline.prep.regions import region_map

METHODS = ("slic", "slico", "opencv-slic", "opencv-slico", "mslic")
MEASURED = METHODS[:4]
"""Of those, the ones whose quality is measured: mslic takes six times as long as all others."""
SIZES = ((320, 320), (512, 512), (640, 480), (2048, 1024))
ASKED = (200, 300, 400, 600, 800, 1000)
MEASURES = ("boundary recall", "undersegmentation error", "achievable accuracy", "compactness")
COLOURS = {
    "slic": "#1f6fc4",
    "slico": "#2c8a4d",
    "opencv-slic": "#c4651b",
    "opencv-slico": "#a04590",
    "mslic": "#7d6a17",
}


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def photographs() -> list[np.ndarray]:
    """Large photographs of several kinds, to be brought to every size."""
    data = data_folder()
    paths = sorted((data / "cityscapes" / "train" / "images").iterdir())[:3]
    paths += sorted((data / "aerial").rglob("*.jpg"))[:2] + sorted((data / "coco_stuff/train/images").iterdir())[:5]
    return [read(path) for path in paths]


def opencv_alone(picture: np.ndarray, layer: RegionLayer) -> None:
    """OpenCV's SLIC without what surrounds it: not even the conversion to CIELAB."""
    slic = cv2.ximgproc.createSuperpixelSLIC(picture, cv2.ximgproc.SLIC, layer.size, layer.ruler)
    slic.iterate(layer.iterations)
    slic.enforceLabelConnectivity(25)
    slic.getLabels()


def other_ways() -> dict[str, Callable[[np.ndarray, RegionLayer], object]]:
    ways: dict[str, Callable[[np.ndarray, RegionLayer], object]] = {"OpenCV's calls alone": opencv_alone}
    try:
        from fast_slic.avx2 import SlicAvx2
    except ImportError:
        return ways

    def fast(row_step: int) -> Callable[[np.ndarray, RegionLayer], object]:
        def way(picture: np.ndarray, layer: RegionLayer) -> object:
            count = picture.shape[0] * picture.shape[1] // layer.size**2
            options = {"compactness": layer.ruler, "subsample_stride": row_step, "num_threads": 1}
            return SlicAvx2(num_components=count, **options).iterate(np.ascontiguousarray(picture), layer.iterations)

        return way

    return ways | {f"fast-slic (AVX2), row step {step}": fast(step) for step in (1, 2, 3)}


def speed(rounds: int) -> str:
    """Milliseconds by size and method, and the speed against `opencv-slic`: medians over pictures and rounds."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    cv2.setNumThreads(1)
    lines = []
    for iterations in (10, 5):
        for width, height in SIZES:
            pictures = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in photographs()]
            layers = {name: RegionLayer.from_text(f"{name}:20,iterations={iterations}") for name in METHODS}
            ways = {name: lambda picture, layer=layer: region_map(picture, layer) for name, layer in layers.items()}
            others = other_ways().items()
            ways |= {name: lambda picture, way=way, layer=layers["slic"]: way(picture, layer) for name, way in others}
            lines += _rows(f"{width}×{height}, {iterations} iterations", pictures, ways, rounds)
    head = ["| picture | method | ms | times as fast as opencv-slic (smallest–largest) |", "|---|---|---|---|"]
    return "\n".join(head + lines) + "\n"


def _rows(what: str, pictures: list, ways: dict[str, Callable], rounds: int) -> list[str]:
    for way in ways.values():
        way(pictures[0])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for picture in pictures:
            for name, way in ways.items():
                started = time.perf_counter()
                way(picture)
                seconds[name].append(time.perf_counter() - started)
    rows = []
    for name, values in seconds.items():
        ratios = [base / own for base, own in zip(seconds["opencv-slic"], values, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        rows.append(f"| {what} | {name} | {1000 * statistics.median(values):.1f} | {spread} |")
    return rows


def quality(output: Path) -> str:
    """Measures by method and number of regions asked, mean and standard error over pictures; kept as they are made."""
    output.mkdir(parents=True, exist_ok=True)
    data = data_folder() / "bsds500" / "train"
    for path in sorted((data / "images").iterdir()):
        kept = output / f"{path.stem}.json"
        if not kept.exists():
            aside = kept.with_suffix(".tmp")
            aside.write_text(json.dumps(_measured(path, sorted((data / "labels").glob(f"{path.stem}_*.png")))))
            aside.rename(kept)
    found = [json.loads(path.read_text()) for path in sorted(output.glob("*.json"))]
    (output / "superpixels.svg").write_text(_plot(found))
    return _table(found)


def _measured(path: Path, segmentations: list[Path]) -> dict[str, dict[str, list[float]]]:
    """Of one picture: method to asked number to regions and the four measures, means over its segmentations."""
    picture = read(path)
    truths = [cv2.imread(str(one), cv2.IMREAD_UNCHANGED) for one in segmentations]
    found: dict[str, dict[str, list[float]]] = {method: {} for method in MEASURED}
    for method in MEASURED:
        for asked in ASKED:
            size = round(math.sqrt(picture.shape[0] * picture.shape[1] / asked))
            regions = region_map(picture, RegionLayer.from_text(f"{method}:{size}"))
            means = [
                float(np.mean([measure(regions, truth) for truth in truths]))
                for measure in (boundary_recall, undersegmentation_error, achievable_accuracy)
            ]
            found[method][str(asked)] = [float(regions.max() + 1), *means, compactness(regions)]
    return found


def _summary(found: list[dict], method: str, asked: int, place: int) -> tuple[float, float]:
    values = np.array([one[method][str(asked)][place] for one in found])
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _table(found: list[dict]) -> str:
    lines = ["| asked | method | regions | " + " | ".join(MEASURES) + " |", "|---" * 7 + "|"]
    for asked in ASKED:
        for method in MEASURED:
            regions = _summary(found, method, asked, 0)[0]
            shares = [_summary(found, method, asked, place) for place in range(1, 5)]
            told = " | ".join(f"{mean:.4f} ± {error:.4f}" for mean, error in shares)
            lines.append(f"| {asked} | {method} | {regions:.0f} | {told} |")
    return "\n".join(lines) + "\n"


def _plot(found: list[dict]) -> str:
    """Four small charts, a line per method, as SVG."""
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 640" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="880" height="640" fill="#fff"/>')
    for place, measure in enumerate(MEASURES, start=1):
        left, top = 60 + (place - 1) % 2 * 440, 40 + (place - 1) // 2 * 300
        means = {method: [_summary(found, method, asked, place)[0] for asked in ASKED] for method in MEASURED}
        low, high = min(map(min, means.values())), max(map(max, means.values()))
        parts.append(f'<text x="{left}" y="{top - 14}" font-weight="bold">{measure}</text>')
        parts.append(f'<path d="M{left} {top}v220h340" fill="none" stroke="#888"/>')
        for value in (low, high):
            y = top + 220 - 220 * (value - low) / (high - low)
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{value:.2f}</text>')
        for asked in ASKED:
            x = left + 340 * (asked - ASKED[0]) / (ASKED[-1] - ASKED[0])
            parts.append(f'<text x="{x:.1f}" y="{top + 236}" text-anchor="middle" fill="#555">{asked}</text>')
        for method, values in means.items():
            points = " ".join(
                f"{left + 340 * (asked - ASKED[0]) / (ASKED[-1] - ASKED[0]):.1f},"
                f"{top + 220 - 220 * (value - low) / (high - low):.1f}"
                for asked, value in zip(ASKED, values, strict=True)
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[method]}" stroke-width="2"/>')
    for place, method in enumerate(MEASURED):
        x = 60 + place * 140
        parts.append(f'<path d="M{x} 622h24" stroke="{COLOURS[method]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 30}" y="626">{method}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def sheet(path: Path) -> None:
    """Outlines of `slic` above those of `opencv-slic`, on eight photographs."""
    data = data_folder()
    paths = (
        sorted((data / "bsds500/train/images").iterdir())[::30][:4]
        + sorted((data / "coco_stuff/train/images").iterdir())[:4]
    )
    columns = []
    for one in paths:
        picture = read(one)
        picture = cv2.resize(picture, (480, 360), interpolation=cv2.INTER_AREA)
        drawn = []
        for method in ("slic", "opencv-slic"):
            ids = region_map(picture, RegionLayer.from_text(f"{method}:20"))
            edge = np.zeros(ids.shape, bool)
            edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
            edge[1:] |= ids[1:] != ids[:-1]
            drawn.append(np.where(edge[..., None], np.uint8([255, 230, 0]), picture).astype(np.uint8))
        columns.append(np.concatenate(drawn))
    rows = [np.concatenate(columns[start : start + 4], axis=1) for start in (0, 4)]
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--output", type=Path, default=Path("superpixels"), help="where measured pictures are kept")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{machine()}, {versions()}\n")
    if given.speed:
        print(speed(given.rounds))
    if given.quality:
        print(quality(given.output))
    if given.sheet:
        sheet(given.sheet)


if __name__ == "__main__":
    main()

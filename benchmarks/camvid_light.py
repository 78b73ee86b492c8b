"""Measure light and colour of CamVid's pictures: the source of the ranges in `pipeline/scenes/light.py`.

    python benchmarks/camvid_light.py --camvid FOLDER

FOLDER holds `images/*.jpg` and `labels/*.png` of one split (the ranges in `light.py` are those of `train`).
Prints, over pictures, the spread of each measure of `vice.pipeline.scenes.measure`, in all and by drive, and the
spread of every class's mean colour. Pictures are reduced to 320×240 first, the size of a scene.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from vice.data_specs.dataset import load_dataset
from vice.pipeline.scenes.measure import LUMA, class_colours, picture_light

SIZE = (320, 240)
QUANTILES = (0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 1.0)


def read_pictures(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield drive, picture (uint8 [240, 320, 3], RGB) and labels (uint8 [240, 320]) of every labelled picture."""
    for path in sorted((folder / "images").iterdir()):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        labels = cv2.imread(str(folder / "labels" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        yield (
            path.stem.split("_")[0],
            cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA),
            cv2.resize(labels, SIZE, interpolation=cv2.INTER_NEAREST),
        )


def print_spread(title: str, rows: list[dict[str, float]]) -> None:
    print(f"\n{title}: {len(rows)} pictures\n{'':12}" + "".join(f"{f'q{q:g}':>9}" for q in QUANTILES))
    for name in rows[0]:
        values = np.quantile([row[name] for row in rows], QUANTILES)
        print(f"{name:12}" + "".join(f"{value:9.3f}" for value in values))


def print_classes(names: list[str], colours: np.ndarray) -> None:
    """Print quantiles over pictures of each class's mean luma and colour ratios; `colours` is [pictures, C, 3]."""
    print("\nclass mean colour over pictures, quantiles 0.05/0.5/0.95")
    print(f"{'':12}{'luma':>24}{'red/green':>24}{'blue/green':>24}")
    for number, name in enumerate(names):
        present = colours[~np.isnan(colours[:, number, 0]), number]
        if len(present) < 5:
            continue
        green = np.maximum(present[:, 1], 1)
        measures = (present @ LUMA, present[:, 0] / green, present[:, 2] / green)
        cells = ("/".join(f"{value:7.2f}" for value in np.quantile(measure, (0.05, 0.5, 0.95))) for measure in measures)
        print(f"{name:12}" + "".join(f"{cell:>24}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True, help="folder with images/ and labels/ of one split")
    folder = parser.parse_args().camvid
    names = load_dataset("camvid").classes
    drives, lights, colours = [], [], []
    for drive, picture, labels in read_pictures(folder):
        drives.append(drive)
        lights.append(picture_light(picture))
        colours.append(class_colours(picture, labels, len(names)))
    print_spread("all drives", lights)
    for drive in sorted(set(drives)):
        print_spread(f"drive {drive}", [light for light, of in zip(lights, drives, strict=True) if of == drive])
    print_classes(names, np.stack(colours))


if __name__ == "__main__":
    main()

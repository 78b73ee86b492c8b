"""What a linear probe on raw colour and position reaches, on generated scenes and on CamVid merged to their classes.

    python benchmarks/raw_probe.py [--seed 0 --seed 1 --seed 2] [--camvid FOLDER]

Fitted on the train pictures (every 8th pixel), evaluated on the validation pictures (every 4th). FOLDER holds CamVid's
`train` and `val`; its pavement counts as road, signs as poles, fences as buildings, cyclists as persons, and every
4th train and 3rd validation picture is taken, as neighbours in a video are alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from camvid_light import read_pictures

from vice.data_specs.dataset import load_dataset
from vice.pipeline.scenes.raw_probe import class_ious, fit_softmax, raw_features
from vice.pipeline.scenes.scene import make_scene

NUM_TRAIN, NUM_VAL = 100, 30
FEATURES = {"colour and position": [0, 1, 2, 3, 4], "colour": [0, 1, 2], "position": [3, 4]}
MERGED = {
    "Sky": "sky",
    "Building": "building",
    "Pole": "pole",
    "Road": "road",
    "Pavement": "road",
    "Tree": "vegetation",
    "SignSymbol": "pole",
    "Fence": "building",
    "Car": "car",
    "Pedestrian": "person",
    "Bicyclist": "person",
}


def scene_pairs(seed: int, split: str, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number in range(count):
        scene = make_scene(seed, split, number)
        yield scene.picture, scene.labels


def camvid_pairs(folder: Path, every: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every `every`-th picture with its labels as classes of `scenes`, 255 for none."""
    classes = load_dataset("scenes").classes
    table = np.full(256, 255, np.uint8)
    for value, name in enumerate(load_dataset("camvid").classes):
        table[value] = classes.index(MERGED[name])
    for number, (_, picture, labels) in enumerate(read_pictures(folder)):
        if number % every == 0:
            yield picture, table[labels]


def report(title: str, train: Iterator, val: Iterator) -> None:
    classes = load_dataset("scenes").classes
    fitted, evaluated = raw_features(train, len(classes), step=8), raw_features(val, len(classes), step=4)
    print(f"\n{title}: mIoU" + " " * 17 + "".join(f"{name:>12}" for name in classes))
    for name, columns in FEATURES.items():
        weights = fit_softmax(fitted[0][:, columns], fitted[1], len(classes))
        ious = class_ious(weights, evaluated[0][:, columns], evaluated[1])
        print(f"{name:22}{np.nanmean(ious):8.3f}" + "".join(f"{iou:12.3f}" for iou in ious))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, action="append", help="generator seed; may be given several times")
    parser.add_argument("--camvid", type=Path, help="folder with CamVid's train and val")
    arguments = parser.parse_args()
    for seed in arguments.seed or [0]:
        report(f"scenes, seed {seed}", scene_pairs(seed, "train", NUM_TRAIN), scene_pairs(seed, "val", NUM_VAL))
    if arguments.camvid:
        report("CamVid", camvid_pairs(arguments.camvid / "train", 4), camvid_pairs(arguments.camvid / "val", 3))


if __name__ == "__main__":
    main()

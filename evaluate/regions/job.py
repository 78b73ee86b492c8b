"""`regions`: one pass over labelled or segmented pictures, and what each layer allows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vice.data_specs.entries import LayerBounds, Measure, RegionBounds, Score, Tile
from vice.data_specs.errors import InputError
from vice.data_specs.regions import IGNORE
from vice.evaluate.gallery import FOLDER, MAX_SIDE
from vice.evaluate.metrics import score
from vice.evaluate.names import CLEAN
from vice.evaluate.pictures import class_colours, paint_labels, save_drawn
from vice.evaluate.progress import track
from vice.evaluate.regions import measures
from vice.evaluate.regions.bounds import TableBuilder, best_for_miou, confusion_of, majority
from vice.evaluate.regions.layers import Layer, compared_layers
from vice.evaluate.regions.segmentations import Segmentations
from vice.evaluate.scenes import data_ref
from vice.pipeline.samples import Sample
from vice.pipeline.shards import Shards

MEASURES = ("boundary_recall", "undersegmentation_error", "achievable_accuracy", "compactness")
NUM_PICTURES = 3
"""Drawn for the report."""


def evaluate_regions(
    shards: Shards, *, layers: Sequence[str] = (), segmentations: Path | None = None, run_dir: Path
) -> RegionBounds:
    """Measure every layer and its grids.

    Args:
        shards: pictures with region layers; with labels for the upper bounds.
        layers: stored layers; all by default.
        segmentations: a folder of segmentations by hand, for the boundary measures.
        run_dir: some pictures are drawn into its folder of pictures.

    Raises:
        InputError: nothing to measure against, no such layer, or a segmentation that does not fit.
        WorkError: a sample cannot be read.
    """
    if not shards.has_labels and segmentations is None:
        hint = "shard labelled pictures with --dataset SPEC, or give --segmentations FOLDER"
        raise InputError("these shards have no labels", where=shards.address, hint=hint)
    started = time.perf_counter()
    compared = compared_layers(shards, layers)
    if not compared:
        raise InputError("no region layer in these shards", where=shards.address, hint="vice-prep shard --regions")
    by_hand = None if segmentations is None else Segmentations(segmentations)
    tallies = {layer.name: _Tally(layer, len(shards.classes)) for layer in compared}
    thickness, pictures = _Thickness(len(shards.classes)), _Pictures(run_dir, shards)
    stored = list(dict.fromkeys(layer.stored for layer in compared if layer.stored))
    for number in track(range(len(shards)), "pictures", total=len(shards)):
        sample = shards.sample(number, layers=stored)
        truths = by_hand.of(sample.meta["source"], sample.picture.shape[:2]) if by_hand else []
        maps = {name: tally.add(sample, truths) for name, tally in tallies.items()}
        if sample.labels is not None:
            thickness.add(sample.labels)
            pictures.add(number, sample, maps)
    return RegionBounds(
        settings={
            "best": "ascent by single moves from the majority: a local optimum, so that the true bound may be higher",
            "boundary_tolerance": f"{measures.TOLERANCE} of the diagonal, rounded to pixels",
            "segmentations": f"all of every picture, their mean; files {by_hand.digest}" if by_hand else "none",
        },
        data=data_ref(shards),
        layers=[tally.bounds(shards.classes) for tally in tallies.values()],
        thickness=thickness.of_classes(shards.classes),
        seconds=time.perf_counter() - started,
        tiles=pictures.tiles,
        colours=class_colours(shards.classes),
    )


class _Tally:
    """What is known of one layer so far."""

    def __init__(self, layer: Layer, num_classes: int):
        self.layer = layer
        self._table = TableBuilder(num_classes)
        self._num_regions: list[int] = []
        self._found: dict[str, list[float]] = {name: [] for name in MEASURES}

    def add(self, sample: Sample, truths: Sequence[np.ndarray]) -> np.ndarray:
        """Count a sample; returns its regions."""
        regions = self.layer.regions(sample)
        self._num_regions.append(len(np.unique(regions)))
        if sample.labels is not None:
            self._table.add(regions, sample.labels)
        if truths:
            for name in MEASURES[:-1]:
                measure = getattr(measures, name)
                self._found[name].append(float(np.mean([measure(regions, truth) for truth in truths])))
            self._found["compactness"].append(measures.compactness(regions))
        return regions

    def bounds(self, classes: Sequence[str]) -> LayerBounds:
        """The result."""
        table = self._table.table()
        scores: dict[str, Score] = {}
        if len(table.regions):
            for name, assign in (("majority", majority), ("best", best_for_miou)):
                scores[name] = score(confusion_of(table, assign(table)), classes)
        found = {name: mean_and_error(values) for name, values in self._found.items() if values}
        return LayerBounds(layer=self.layer.name, regions=mean_and_error(self._num_regions), **scores, **found)


def mean_and_error(values: Sequence[float | int]) -> Measure:
    """Mean and standard error of a value per picture."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Measure(mean=float(np.mean(values)), standard_error=error)


class _Thickness:
    """Mean thickness of the pieces of every class.

    In a strip of width w, pixels are on average (w + 2) / 4 away from the nearest pixel outside, so that four times the
    mean distance less two is the width. The picture's edge is no edge of a class; unlabelled pixels are outside.
    """

    def __init__(self, num_classes: int):
        self._distance, self._pixels = np.zeros(num_classes), np.zeros(num_classes, np.int64)

    def add(self, labels: np.ndarray) -> None:
        for label in np.unique(labels[labels != IGNORE]):
            inside = (labels == label).astype(np.uint8)
            longest = max(labels.shape)
            # without a pixel outside there is no distance: the class is as thick as the picture
            distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5) if not inside.all() else inside * (longest / 4)
            self._distance[label] += np.minimum(distance[inside > 0], longest).sum()
            self._pixels[label] += int(inside.sum())

    def of_classes(self, classes: Sequence[str]) -> dict[str, float]:
        there = np.flatnonzero(self._pixels)
        return {classes[c]: float(4 * self._distance[c] / self._pixels[c] - 2) for c in there}


class _Pictures:
    """A few pictures with their labels and the majority's labels under every layer."""

    def __init__(self, run_dir: Path, shards: Shards):
        self.tiles: list[Tile] = []
        self._run_dir, self._num_classes = run_dir, len(shards.classes)
        ref = data_ref(shards)
        self._name = f"regions-{ref.dataset}-{ref.split}" + (f"-{ref.class_set}" if ref.class_set else "")
        self._numbers = {(2 * i + 1) * len(shards) // (2 * NUM_PICTURES) for i in range(NUM_PICTURES)}

    def add(self, number: int, sample: Sample, maps: dict[str, np.ndarray]) -> None:
        if number not in self._numbers:
            return
        self._save(sample.key, None, "picture", sample.picture, blend=True)
        self._save(sample.key, None, "labels", paint_labels(sample.labels, num_classes=self._num_classes))
        for name, regions in maps.items():
            builder = TableBuilder(self._num_classes)
            builder.add(regions, sample.labels)
            ids = np.unique(regions[sample.labels != IGNORE])
            chosen = np.full(int(regions.max()) + 1, IGNORE, np.uint16)
            chosen[ids] = majority(builder.table())
            painted = paint_labels(chosen[regions], num_classes=self._num_classes)
            painted[measures.boundaries(regions)] = (0.75 * painted[measures.boundaries(regions)]).astype(np.uint8)
            self._save(sample.key, name, "regions", painted)

    def _save(self, key: str, layer: str | None, shows: str, picture: np.ndarray, *, blend: bool = False) -> None:
        parts = [self._name, key, *([layer.replace(":", "")] if layer else []), shows]
        file = save_drawn(self._run_dir, f"{FOLDER}/{'-'.join(parts)}", picture, max_side=MAX_SIDE, blend=blend)
        self.tiles.append(Tile(file=file, key=key, condition=CLEAN, encoder=layer, shows=shows))

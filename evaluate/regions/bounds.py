"""How good labels can be where whole regions are labelled: by majority, and assigned for mIoU itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Integer

from vice.data_specs.regions import IGNORE

MOST_ROUNDS = 400


class RegionTable(NamedTuple):
    """Labelled pixels by region and class, as the pairs that occur, sorted by region."""

    regions: Int64[np.ndarray, " n"]
    """0..R-1 through all pictures; regions without a labelled pixel are left out."""
    classes: Int64[np.ndarray, " n"]
    counts: Int64[np.ndarray, " n"]
    num_classes: int

    @property
    def sizes(self) -> Int64[np.ndarray, " r"]:
        """Labelled pixels of every region."""
        return np.bincount(self.regions, weights=self.counts).astype(np.int64)


class TableBuilder:
    """Gathers a region table picture by picture: 24 bytes for each pair of a region and a class that meet."""

    def __init__(self, num_classes: int):
        self._num_classes, self._parts, self._num_regions = num_classes, [], 0

    def add(self, regions: Integer[np.ndarray, "h w"], labels: Integer[np.ndarray, "h w"]) -> None:
        """Count a picture's labelled pixels by region and class."""
        labelled = labels != IGNORE
        if not labelled.any():
            return
        ids = np.unique(regions[labelled], return_inverse=True)[1].astype(np.int64)
        pairs, counts = np.unique(ids * self._num_classes + labels[labelled], return_counts=True)
        of = pairs // self._num_classes + self._num_regions
        self._parts.append((of, pairs % self._num_classes, counts.astype(np.int64)))
        self._num_regions += int(ids.max()) + 1

    def table(self) -> RegionTable:
        """All that was added."""
        if not self._parts:
            empty = np.zeros(0, np.int64)
            return RegionTable(empty, empty, empty, self._num_classes)
        return RegionTable(*map(np.concatenate, zip(*self._parts, strict=True)), self._num_classes)


def majority(table: RegionTable) -> Int64[np.ndarray, " r"]:
    """The class of most labelled pixels of every region (the first of equals): the highest accuracy."""
    # by region, then count, then class from the last to the first: the last of a region wins
    order = np.lexsort((-table.classes, table.counts, table.regions))
    chosen = np.zeros(int(table.regions.max()) + 1 if len(table.regions) else 0, np.int64)
    chosen[table.regions[order]] = table.classes[order]
    return chosen


def confusion_of(table: RegionTable, assigned: Int64[np.ndarray, " r"]) -> Int64[np.ndarray, "c c"]:
    """Pixel counts by labelled class (rows) and assigned class (columns)."""
    flat = table.classes * table.num_classes + assigned[table.regions]
    counts = np.bincount(flat, weights=table.counts, minlength=table.num_classes**2)
    return counts.astype(np.int64).reshape(table.num_classes, table.num_classes)


def best_for_miou(table: RegionTable) -> Int64[np.ndarray, " r"]:
    """An assignment with a high mIoU, by ascent from the majority; never below it.

    A move gives one region another of its own classes. In each round the moves that would raise the mIoU by
    themselves are ranked; the better ones are made together as long as the mIoU rises, fewer of them where it does
    not. The end is a local optimum: no single move of that kind raises the mIoU.
    """
    assigned = majority(table)
    if not len(assigned):
        return assigned
    value = _miou(confusion_of(table, assigned))
    sizes, share = table.sizes, 0.5
    for _ in range(MOST_ROUNDS):
        gains = _gains(table, assigned, sizes)
        moves = np.flatnonzero(gains > 1e-12)
        if not len(moves):
            break
        moves = _one_of_each_region(table, moves[np.argsort(-gains[moves], kind="stable")])
        made = moves[: max(1, int(share * len(moves)))]
        changed = assigned.copy()
        changed[table.regions[made]] = table.classes[made]
        now = _miou(confusion_of(table, changed))
        if now > value:
            assigned, value, share = changed, now, min(1.0, 2 * share)
        elif len(made) == 1:
            break
        else:
            share = len(made) / len(moves) / 4
    return assigned


def _gains(
    table: RegionTable, assigned: Int64[np.ndarray, " r"], sizes: Int64[np.ndarray, " r"]
) -> Float64[np.ndarray, " n"]:
    """By how much the sum of IoUs rises if a pair's region alone goes to the pair's class."""
    confusion = confusion_of(table, assigned)
    inside = np.diag(confusion).astype(float)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - inside
    own = np.zeros(len(assigned))
    held = table.classes == assigned[table.regions]
    own[table.regions[held]] = table.counts[held]
    of, to = table.regions, table.classes
    now, left = assigned[of], own[of]

    def iou(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.where(whole > 0, part / np.maximum(whole, 1), 0)

    gained = iou(inside[to] + table.counts, union[to] + sizes[of] - table.counts) - iou(inside[to], union[to])
    lost = iou(inside[now], union[now]) - iou(inside[now] - left, union[now] - sizes[of] + left)
    return np.where(now == to, 0.0, gained - lost)


def _one_of_each_region(table: RegionTable, moves: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " k"]:
    """The first move of every region, in order."""
    return moves[np.sort(np.unique(table.regions[moves], return_index=True)[1])]


def _miou(confusion: Int64[np.ndarray, "c c"]) -> float:
    inside = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - inside
    return float((inside[union > 0] / union[union > 0]).mean())

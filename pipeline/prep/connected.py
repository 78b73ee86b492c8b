"""Label maps as connected pieces: finding them, numbering them, merging the smallest into their neighbours."""

from __future__ import annotations

import heapq

import cv2
import numpy as np


def connected_pieces(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the 4-connected pieces of equal label: int32 [h, w], and how many there are.

    Pixels are spread over a grid of twice the size, with a link between two neighbours of equal label, so that one
    pass of a binary component search finds the pieces of all labels.
    """
    height, width = labels.shape
    links = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    links[::2, ::2] = 1
    links[::2, 1::2] = labels[:, 1:] == labels[:, :-1]
    links[1::2, ::2] = labels[1:] == labels[:-1]
    _, pieces = cv2.connectedComponents(links, connectivity=4, ltype=cv2.CV_32S)
    return _numbered(pieces[::2, ::2])


def _numbered(ids: np.ndarray) -> tuple[np.ndarray, int]:
    """Renumber ids 0..R-1 in the order of their first pixels, and count them."""
    flat = ids.ravel()
    absent = flat.size
    first = np.full(int(flat.max()) + 1, absent)
    first[flat[::-1]] = np.arange(flat.size)[::-1]  # of several values for an id the last stays: its first pixel
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[ids], int((first < absent).sum())


def merge_smallest(
    ids: np.ndarray, count: int, *, min_area: float, max_count: int | None = None
) -> tuple[np.ndarray, int]:
    """Merge regions, smallest first, each into the neighbour with the longest border.

    Args:
        ids: int32 [h, w], connected regions 0..count-1.
        count: number of regions.
        min_area: regions of fewer pixels are merged.
        max_count: go on until there are at most this many regions.

    Returns:
        int32 [h, w], ids 0..R-1 in the order of their first pixels, and R.
    """
    areas = np.bincount(ids.ravel(), minlength=count).tolist()
    max_count = max_count or count
    if min(areas) >= min_area and count <= max_count:
        return ids, count
    borders = _borders(ids, count)
    owner = list(range(count))
    by_area = [(area, region) for region, area in enumerate(areas)]
    heapq.heapify(by_area)
    left = count
    while by_area and (by_area[0][0] < min_area or left > max_count):
        area, region = heapq.heappop(by_area)
        if owner[region] != region or area != areas[region] or not borders[region]:
            continue
        target = max(borders[region], key=lambda other: (borders[region][other], -other))
        _move_borders(borders, region, target)
        owner[region] = target
        areas[target] += area
        heapq.heappush(by_area, (areas[target], target))
        left -= 1
    return _numbered(_final_owners(owner)[ids])


def _borders(ids: np.ndarray, count: int) -> list[dict[int, int]]:
    """Per region: neighbouring region to the length of their border, in pixel edges."""
    right = np.stack([ids[:, :-1].ravel(), ids[:, 1:].ravel()], axis=1)
    below = np.stack([ids[:-1].ravel(), ids[1:].ravel()], axis=1)
    pairs = np.sort(np.concatenate([right, below]), axis=1).astype(np.int64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    codes, lengths = np.unique(pairs[:, 0] * count + pairs[:, 1], return_counts=True)
    borders: list[dict[int, int]] = [{} for _ in range(count)]
    for code, length in zip(codes.tolist(), lengths.tolist(), strict=True):
        one, other = divmod(code, count)
        borders[one][other] = borders[other][one] = length
    return borders


def _move_borders(borders: list[dict[int, int]], region: int, target: int) -> None:
    """Give the borders of `region` to `target`, which takes it in."""
    for other, length in borders[region].items():
        del borders[other][region]
        if other != target:
            borders[target][other] = borders[other][target] = borders[target].get(other, 0) + length
    borders[region] = {}


def _final_owners(owner: list[int]) -> np.ndarray:
    """Follow each region's owner to the region that stands in the end."""
    owners = np.array(owner)
    while not np.array_equal(owners, owners[owners]):
        owners = owners[owners]
    return owners

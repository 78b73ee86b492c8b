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
    ids: np.ndarray, count: int, picture: np.ndarray, *, min_area: float, max_count: int
) -> tuple[np.ndarray, int]:
    """Merge regions, smallest first, each into the neighbour nearest in mean colour, of equal ones the longest border.

    The nearest colour, not the longest border alone: where mslic has far too many regions, it keeps the borders in the
    picture.

    Args:
        ids: int32 [h, w], connected regions 0..count-1.
        count: number of regions.
        picture: uint8 [h, w, 3], in a space where distance is difference to the eye.
        min_area: regions of fewer pixels are merged.
        max_count: merging goes on until there are at most this many regions.

    Returns:
        int32 [h, w], ids 0..R-1 in the order of their first pixels, and R.
    """
    areas = np.bincount(ids.ravel(), minlength=count).tolist()
    if min(areas) >= min_area and count <= max_count:
        return ids, count
    colours, borders = _mean_colours(ids, count, picture), _borders(ids, count)
    owner = list(range(count))
    by_area = [(area, region) for region, area in enumerate(areas)]
    heapq.heapify(by_area)
    while by_area and (by_area[0][0] < min_area or count > max_count):
        area, region = heapq.heappop(by_area)
        if owner[region] != region or area != areas[region] or not borders[region]:
            continue
        target = _nearest(region, borders[region], colours)
        _move_borders(borders, region, target)
        colours[target] = _mixed(colours[region], area, colours[target], areas[target])
        owner[region] = target
        areas[target] += area
        count -= 1
        heapq.heappush(by_area, (areas[target], target))
    return _numbered(_final_owners(owner)[ids])


def _nearest(region: int, borders: dict[int, int], colours: list[tuple[float, ...]]) -> int:
    """The neighbour nearest in colour; of equal ones that with the longest border, then the first."""
    a, b, c = colours[region]

    def distance(other: int) -> tuple[float, int, int]:
        x, y, z = colours[other]
        return (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2, -borders[other], other

    return min(borders, key=distance)


def _mean_colours(ids: np.ndarray, count: int, picture: np.ndarray) -> list[tuple[float, ...]]:
    """Mean of the three channels per region."""
    flat = ids.ravel()
    areas = np.bincount(flat, minlength=count)
    channels = [np.bincount(flat, weights=channel.ravel(), minlength=count) / areas for channel in cv2.split(picture)]
    return list(zip(*(channel.tolist() for channel in channels), strict=True))


def _mixed(one: tuple[float, ...], area: int, other: tuple[float, ...], other_area: int) -> tuple[float, ...]:
    """Mean colour of two regions together."""
    total = area + other_area
    return tuple((x * area + y * other_area) / total for x, y in zip(one, other, strict=True))


def _borders(ids: np.ndarray, count: int) -> list[dict[int, int]]:
    """Per region: neighbouring region to the length of their border, in pixel edges."""
    across = ids[:, :-1] != ids[:, 1:]
    down = ids[:-1] != ids[1:]
    one = np.concatenate([ids[:, :-1][across], ids[:-1][down]])
    other = np.concatenate([ids[:, 1:][across], ids[1:][down]])
    pairs = np.minimum(one, other).astype(np.int64) * count + np.maximum(one, other)
    codes, lengths = np.unique(pairs, return_counts=True)
    borders: list[dict[int, int]] = [{} for _ in range(count)]
    for code, length in zip(codes.tolist(), lengths.tolist(), strict=True):
        first, second = divmod(code, count)
        borders[first][second] = borders[second][first] = length
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

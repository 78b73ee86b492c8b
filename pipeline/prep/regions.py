"""Region layers: a picture → superpixels, each of them one connected piece, numbered without gaps."""

from __future__ import annotations

import heapq
import math

import cv2
import numpy as np

from vice.data_specs.regions import MAX_REGIONS_STORED, RegionLayer
from vice.pipeline.prep.rejection import Rejected

REGIONS_VERSION = "ximgproc lab blur3 connected 1"

_ALGORITHMS = {"slic": cv2.ximgproc.SLIC, "slico": cv2.ximgproc.SLICO, "mslic": cv2.ximgproc.MSLIC}

_SMALLEST_PERCENT = 25
"""A region smaller than this share of size² is merged into a neighbour (OpenCV's default for its own merging)."""


def region_map(picture: np.ndarray, layer: RegionLayer) -> np.ndarray:
    """Divide a picture into superpixels.

    Args:
        picture: uint8 [h, w, 3], RGB.
        layer: method, mean region side in pixels, ruler, iterations.

    Returns:
        uint16 [h, w], ids 0..R-1 in the order of their first pixels, every id used, every region 4-connected.

    Raises:
        Rejected: the picture is smaller than a region, or has more regions than 16 bits can number.
    """
    height, width = picture.shape[:2]
    if min(height, width) < layer.size:
        raise Rejected("regions", f"{width} × {height} is smaller than a region of {layer}")
    # OpenCV's own enforcement counts a share of the regions it found, which for mslic are far too many and too small.
    ids, count = connected_pieces(_superpixels(picture, layer))
    ids, count = _merge_small(ids, count, layer.size**2 * _SMALLEST_PERCENT / 100)
    if count > MAX_REGIONS_STORED:
        size = math.ceil(layer.size * math.sqrt(count / MAX_REGIONS_STORED))
        raise Rejected(
            "regions", f"{layer} gives {count:,} regions, more than {MAX_REGIONS_STORED:,}; use {layer.method}:{size}"
        )
    return ids.astype(np.uint16)


def _superpixels(picture: np.ndarray, layer: RegionLayer) -> np.ndarray:
    """OpenCV's superpixels in CIELAB after a 3×3 Gaussian blur, int32 [h, w]."""
    lab = cv2.cvtColor(cv2.GaussianBlur(picture, ksize=(3, 3), sigmaX=0), cv2.COLOR_RGB2Lab)
    superpixels = cv2.ximgproc.createSuperpixelSLIC(
        image=lab, algorithm=_ALGORITHMS[layer.method], region_size=layer.size, ruler=layer.ruler
    )
    superpixels.iterate(num_iterations=layer.iterations)
    superpixels.enforceLabelConnectivity(min_element_size=_SMALLEST_PERCENT)
    return superpixels.getLabels()


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


def _merge_small(ids: np.ndarray, count: int, min_area: float) -> tuple[np.ndarray, int]:
    """Merge regions of fewer than `min_area` pixels, smallest first, into the neighbour with the longest border."""
    areas = np.bincount(ids.ravel(), minlength=count).tolist()
    small = [(area, region) for region, area in enumerate(areas) if area < min_area]
    if not small:
        return ids, count
    borders = _borders(ids, count)
    owner = list(range(count))
    heapq.heapify(small)
    while small:
        area, region = heapq.heappop(small)
        if owner[region] != region or area != areas[region] or not borders[region]:
            continue
        target = max(borders[region], key=lambda other: (borders[region][other], -other))
        _move_borders(borders, region, target)
        owner[region] = target
        areas[target] += area
        if areas[target] < min_area:
            heapq.heappush(small, (areas[target], target))
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

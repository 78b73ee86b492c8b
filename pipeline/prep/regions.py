"""Region layers: a picture → superpixels of the size asked, each of them one connected piece, numbered without gaps."""

from __future__ import annotations

import math

import cv2
import numpy as np

from vice.data_specs.regions import MAX_REGIONS_STORED, RegionLayer
from vice.pipeline.prep.rejection import Rejected
from vice.pipeline.superpixels.kernels import row_sums
from vice.pipeline.superpixels.pieces import connected_regions
from vice.pipeline.superpixels.slic import SLIC_VERSION, slic

REGIONS_VERSION = f"slic {SLIC_VERSION}, ximgproc, lab blur3, connected 3"

_OF_OPENCV = {
    "opencv-slic": cv2.ximgproc.SLIC,
    "opencv-slico": cv2.ximgproc.SLICO,
    "mslic": cv2.ximgproc.MSLIC,
}

_SMALLEST_PERCENT = 25
"""A region smaller than this share of size² is merged into a neighbour (OpenCV's default for its own merging)."""

_STEP_OF_SIZE = {"mslic": 0.8}
"""Spacing of the first seeds as a share of the size asked, 1 for the others. MSLIC joins and splits regions as it goes:
with 0.8 nearly every photograph has at least as many regions as asked, from sizes of 8 pixels to 64."""

_FEWEST_SEEDS = 0.98
"""Fewer seeds than this share of the regions asked are too few to begin with."""

_FEWEST = 0.85
"""With fewer regions than this share of those asked, the picture is divided again from more seeds."""

_SMALLEST_STEP = 2

_HALF_THE_ROWS = 10
"""From this spacing of seeds on, iterations but the last take every second row: as good, and in half the time."""

_MAX_PASSES = 4
"""A picture that has too few regions after so many keeps the last ones (noise, which falls to fragments)."""


def region_map(picture: np.ndarray, layer: RegionLayer) -> np.ndarray:
    """Divide a picture into superpixels.

    The number of regions is width · height / size², up to rounding: from too many the smallest are merged, with too
    few the picture is divided again from more seeds.

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
    asked = regions_asked(width, height, layer)
    lab = cv2.cvtColor(cv2.GaussianBlur(picture, ksize=(3, 3), sigmaX=0), cv2.COLOR_RGB2Lab)
    sums = row_sums(lab)
    min_area = layer.size**2 * _SMALLEST_PERCENT / 100
    step = _first_step(width, height, layer, asked)
    for _ in range(_MAX_PASSES):
        # OpenCV's own enforcement counts a share of the regions it found, which for mslic are far too many, too small.
        labels = _superpixels(lab, sums, layer, step)
        ids, count = connected_regions(labels, sums, min_area=min_area, max_count=asked)
        if count >= _FEWEST * asked or step == _SMALLEST_STEP:
            break
        step = max(_SMALLEST_STEP, min(step - 1, int(step * math.sqrt(count / asked))))
    return ids.astype(np.uint16)


def regions_asked(width: int, height: int, layer: RegionLayer) -> int:
    """How many regions of the layer's mean size a picture of width × height pixels holds.

    Raises:
        Rejected: more than 16 bits can number.
    """
    pixels = width * height
    # Not rounded at a half: of one region or two, for example, the one nearer in side (√1.4 = 1.18, √(1.4 / 2) = 0.84).
    asked = max(1, math.ceil(pixels / layer.size**2 - 0.4))
    if asked > MAX_REGIONS_STORED:
        size = math.isqrt((pixels - 1) // MAX_REGIONS_STORED) + 1
        reason = f"{layer} gives {asked:,} regions, more than {MAX_REGIONS_STORED:,}; use {layer.method}:{size}"
        raise Rejected("regions", reason, "too-large")
    return asked


def _first_step(width: int, height: int, layer: RegionLayer, asked: int) -> int:
    """The spacing of the seeds to begin with: at most the size asked, and small enough for as many seeds as asked."""
    step = max(_SMALLEST_STEP, round(layer.size * _STEP_OF_SIZE.get(layer.method, 1.0)))
    while step > _SMALLEST_STEP and _num_seeds(width, height, layer.method, step) < _FEWEST_SEEDS * asked:
        step -= 1
    return step


def _num_seeds(width: int, height: int, method: str, step: int) -> int:
    """How many seeds are set: by opencv-slico every second row is moved by half a step, by the others a plain grid."""
    if method == "opencv-slico":
        rows = len(range(step // 2, height, step))
        even, odd = len(range(step // 2, width, step)), len(range(step // 2 * 2, width, step))
        return (rows + 1) // 2 * even + rows // 2 * odd
    rows, columns = _grid(width, height, step)
    return rows * columns


def _grid(width: int, height: int, step: int) -> tuple[int, int]:
    """Rows and columns of a plain grid of seeds."""
    return max(1, math.floor(height / step + 0.5)), max(1, math.floor(width / step + 0.5))


def _superpixels(lab: np.ndarray, sums: np.ndarray, layer: RegionLayer, step: int) -> np.ndarray:
    """Superpixels, int32 [h, w], of a picture in CIELAB with its `row_sums`, from seeds `step` pixels apart."""
    if layer.method in _OF_OPENCV:
        return _by_opencv(lab, layer, step)
    rows, columns = _grid(lab.shape[1], lab.shape[0], step)
    return slic(
        lab,
        sums,
        rows,
        columns,
        ruler=layer.ruler,
        iterations=layer.iterations,
        adaptive=layer.method == "slico",
        row_step=2 if step >= _HALF_THE_ROWS else 1,
    )


def _by_opencv(lab: np.ndarray, layer: RegionLayer, step: int) -> np.ndarray:
    """OpenCV's superpixels; see `_superpixels`."""
    superpixels = cv2.ximgproc.createSuperpixelSLIC(
        image=lab, algorithm=_OF_OPENCV[layer.method], region_size=step, ruler=layer.ruler
    )
    superpixels.iterate(num_iterations=layer.iterations)
    superpixels.enforceLabelConnectivity(min_element_size=_SMALLEST_PERCENT)
    return superpixels.getLabels()

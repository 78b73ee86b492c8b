"""Views of one sample in plain NumPy and OpenCV: what the DALI graph must equal, and what `vice-prep preview` draws."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.data_specs.regions import IGNORE
from vice.pipeline.loader.counters import hash32
from vice.pipeline.loader.noise import noise_table, noise_window
from vice.pipeline.loader.plan import ViewPlan
from vice.pipeline.loader.settings import ViewSettings

HALF_RANGE = 128.0
"""Mid-grey of 8-bit colour, around which contrast is changed."""

RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
"""The colour space in which hue is turned and saturation scaled."""


class Views(NamedTuple):
    """M views of one sample; the batch's fields without the pictures' axis."""

    images: np.ndarray
    """float32 [m, 3, h, w]."""
    regions: np.ndarray
    """int32 [m, h, w], 0..num_regions-1 or IGNORE."""
    region_ids: np.ndarray
    """int64 [num_regions]."""
    masked: np.ndarray
    """bool [m, h, w]."""


def make_views(picture: np.ndarray, ids: np.ndarray, plan: ViewPlan, settings: ViewSettings) -> Views:
    """Make all views of one sample.

    Args:
        picture: uint8 [h, w, 3], RGB.
        ids: integer [h, w], region ids of the picture.
        plan: what was drawn.
        settings: size of views, most regions.
    """
    views = range(settings.num_views)
    levels = np.stack([view_levels(picture, plan, view, settings.size) for view in views])
    cropped = np.stack([view_ids(ids, plan, view, settings.size) for view in views])
    regions, region_ids = _mutual(cropped, int(plan.seed[-1]), settings)
    masked = np.stack([_masked(cropped[view], plan.mask_share[view], int(plan.seed[view])) for view in views])
    images = (levels / np.float32(255) - np.float32(IMAGE_MEAN)) / np.float32(IMAGE_STD)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    for view in views:
        _fill_with_noise(images[view], masked[view], int(plan.seed[view]))
    return Views(images, regions, region_ids, masked)


def view_ids(ids: np.ndarray, plan: ViewPlan, view: int, size: int) -> np.ndarray:
    """Crop, resize (nearest neighbour) and flip a map of ids; int32 [size, size]."""
    left, top, side = (int(part[view]) for part in plan.boxes)
    inside = np.floor((np.arange(size) + 0.5) * (side / size)).astype(np.int64)
    cropped = ids[np.ix_(top + inside, left + inside)].astype(np.int32)
    return cropped[:, ::-1] if plan.flip[view] else cropped


def view_levels(picture: np.ndarray, plan: ViewPlan, view: int, size: int) -> np.ndarray:
    """Crop, resize (triangular filter), distort colour, blur, flip; float32 [size, size, 3], levels in 0..255."""
    left, top, side = (int(part[view]) for part in plan.boxes)
    levels = _resample(_resample(picture, top, side, size, axis=0), left, side, size, axis=1)
    levels = np.clip(np.rint(levels), 0, 255).astype(np.float32)
    if plan.colour.applied[view]:
        levels = distort_colour(levels, *(float(part[view]) for part in plan.colour[:4]))
    sigma = float(plan.blur_sigma[view])
    if sigma > 0:
        window = 2 * int(np.ceil(3 * sigma)) + 1
        levels = cv2.GaussianBlur(levels, (window, window), sigmaX=sigma, borderType=cv2.BORDER_REFLECT_101)
    levels = np.clip(levels, 0, 255)
    return levels[:, ::-1] if plan.flip[view] else levels


def distort_colour(levels: np.ndarray, brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """Turn the hue (degrees) and scale saturation in YIQ, then scale contrast around mid-grey and brightness.

    Args:
        levels: float32 [..., 3], RGB in 0..255.
        brightness: factor.
        contrast: factor.
        saturation: factor.
        hue: degrees.

    Returns:
        float32 [..., 3], not clipped.
    """
    angle = np.deg2rad(hue)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    matrix = np.linalg.inv(RGB_TO_YIQ) @ turn @ np.diag([1, saturation, saturation]) @ RGB_TO_YIQ
    offset = brightness * HALF_RANGE * (1 - contrast)
    return (levels @ (brightness * contrast * matrix).T + offset).astype(np.float32)


def _resample(values: np.ndarray, start: int, side: int, size: int, *, axis: int) -> np.ndarray:
    """Resize [start, start + side) of an axis to `size`: linear when enlarging, a triangle as wide as a step otherwise.

    Pixels beyond the crop take part where the filter reaches them; beyond the picture its edge goes on, as in DALI.
    """
    length, scale = values.shape[axis], side / size
    reach = max(scale, 1.0)
    margin = int(np.ceil(reach))
    centre = start + (np.arange(size) + 0.5) * scale
    place = np.arange(-margin, length + margin)
    spread = np.maximum(0, 1 - np.abs(place + 0.5 - centre[:, None]) / reach)
    spread /= spread.sum(1, keepdims=True)
    weight = spread[:, margin : margin + length].copy()
    weight[:, 0] += spread[:, :margin].sum(1)
    weight[:, -1] += spread[:, margin + length :].sum(1)
    return np.moveaxis(np.tensordot(weight, values.astype(np.float64), (1, axis)), 0, axis)


def _mutual(cropped: np.ndarray, seed: int, settings: ViewSettings) -> tuple[np.ndarray, np.ndarray]:
    """Regions of all views, numbered anew: int32 [m, h, w] and the int64 ids they had."""
    found = [np.unique(view, return_counts=True) for view in cropped]
    large = [ids[count >= settings.min_region_pixels] for ids, count in found]
    mutual = large[0]
    for ids in large[1:]:
        mutual = np.intersect1d(mutual, ids)
    mutual = mutual.astype(np.int64)
    if len(mutual) > settings.max_regions:
        first = np.argsort(hash32(mutual ^ seed), kind="stable")[: settings.max_regions]
        mutual = np.sort(mutual[first])
    place = np.searchsorted(mutual, cropped)
    inside = np.isin(cropped, mutual)
    return np.where(inside, place, IGNORE).astype(np.int32), mutual


def _masked(cropped: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Bool [h, w]: whole regions in hash order, within the share of the area."""
    ids, inverse, count = np.unique(cropped, return_inverse=True, return_counts=True)
    order = np.argsort(hash32(ids.astype(np.int64) ^ seed), kind="stable")
    chosen = np.zeros(len(ids), bool)
    chosen[order] = np.cumsum(count[order]) <= int(float(share) * cropped.size)
    return chosen[inverse].reshape(cropped.shape)


def _fill_with_noise(image: np.ndarray, masked: np.ndarray, seed: int) -> None:
    """Noise at masked pixels of a float32 [3, h, w] image, in place: the seed's window of the noise table."""
    noise = noise_table(image.size)[noise_window(seed, image.size)].reshape(image.shape)
    np.copyto(image, noise, where=masked)

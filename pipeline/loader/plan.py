"""A sample's views before any pixel is touched: crops, flips, colour, blur and masking, all drawn from counters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vice.pipeline.loader.counters import raw_draws, uniforms
from vice.pipeline.loader.geometry import Boxes, num_uniforms, place_around_centre
from vice.pipeline.loader.order import Visit
from vice.pipeline.loader.settings import AppearanceSettings, ViewSettings


class Colour(NamedTuple):
    """Colour distortion of the views of one sample; neutral values where a view's colour is left alone."""

    brightness: np.ndarray
    """float32 [m], factor."""
    contrast: np.ndarray
    """float32 [m], factor around mid-grey."""
    saturation: np.ndarray
    """float32 [m], factor; 0 is grey."""
    hue: np.ndarray
    """float32 [m], degrees."""
    applied: np.ndarray
    """bool [m], whether anything changes."""


class ViewPlan(NamedTuple):
    """All that is drawn for one visit of one sample."""

    boxes: Boxes
    flip: np.ndarray
    """bool [m]."""
    colour: Colour
    blur_sigma: np.ndarray
    """float32 [m], view pixels; 0 is no blur."""
    mask_share: np.ndarray
    """float32 [m], share of the view's area that masked regions may cover at most."""
    seed: np.ndarray
    """int64 [m + 1], 32-bit seeds: of each view's masking, and last of the choice among too many regions."""
    centre: tuple[float, float]
    """(x, y) in picture pixels: the point drawn from the density, around which the views lie."""


def plan_views(
    width: int,
    height: int,
    density: np.ndarray,
    density_stride: int,
    *,
    settings: ViewSettings,
    seed: int,
    visit: Visit,
) -> ViewPlan:
    """Draw everything that chance decides about the views of one visit.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        density: uint8 content density, see `place_views`.
        density_stride: picture pixels per density cell.
        settings: what to draw.
        seed: of the run.
        visit: epoch and sample; with the seed, the counters' key.
    """
    num_views = settings.num_views
    wanted = num_uniforms(num_views)
    geometry = uniforms(seed, "geometry", *visit, wanted + num_views)
    colour, blur_sigma = _appearance(uniforms(seed, "appearance", *visit, 8 * num_views), settings.appearance)
    masking = raw_draws(seed, "masking", *visit, 2 * num_views + 1)
    placement = place_around_centre(width, height, density, density_stride, geometry[:wanted], settings)
    return ViewPlan(
        boxes=placement.boxes,
        flip=geometry[wanted:] < settings.flip_probability,
        colour=colour,
        blur_sigma=blur_sigma,
        mask_share=((masking[:num_views] >> np.uint64(11)) * 2.0**-53 * settings.mask_share).astype(np.float32),
        seed=(masking[num_views:] >> np.uint64(32)).astype(np.int64),
        centre=placement.centre,
    )


def _appearance(draws: np.ndarray, settings: AppearanceSettings) -> tuple[Colour, np.ndarray]:
    """Colour distortion and blur from float64 [8 m] uniforms."""
    chance, brightness, contrast, saturation, hue, grey, blur, sigma = draws.reshape(8, -1)
    jitter = chance < settings.jitter_probability
    grey = grey < settings.grey_probability

    def factor(uniform: np.ndarray, strength: float) -> np.ndarray:
        return np.where(jitter, 1 + strength * (2 * uniform - 1), 1.0).astype(np.float32)

    colour = Colour(
        brightness=factor(brightness, settings.brightness),
        contrast=factor(contrast, settings.contrast),
        saturation=np.where(grey, 0, factor(saturation, settings.saturation)).astype(np.float32),
        hue=np.where(jitter, 360 * settings.hue * (2 * hue - 1), 0.0).astype(np.float32),
        applied=jitter | grey,
    )
    low, high = settings.blur_sigma
    return colour, np.where(blur < settings.blur_probability, low + (high - low) * sigma, 0).astype(np.float32)

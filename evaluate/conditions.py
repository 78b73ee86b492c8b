"""The conditions a picture is evaluated under: as it is (`clean`), and under `changed light`.

Features that mean something stay put when brightness, contrast and colour change; features that are colour do not. The
change is a fixed function of (seed, the picture's number), so every encoder and every checkpoint meets the same one.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from vice.evaluate.counters import uniforms
from vice.evaluate.names import CHANGED_LIGHT, CLEAN

BRIGHTNESS = (0.6, 1.4)
CONTRAST = (0.6, 1.4)
SATURATION = (0.5, 1.5)
HUE = (-0.05, 0.05)

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Light(NamedTuple):
    """A change of light; the defaults change nothing."""

    brightness: float = 1.0
    """Factor of every value."""
    contrast: float = 1.0
    """Factor of every value's distance to the picture's mean luma."""
    saturation: float = 1.0
    """Factor of every value's distance to its pixel's luma."""
    hue: float = 0.0
    """Turn of the hue, as a share of the full circle."""


def draw_light(seed: int, picture: int) -> Light:
    """The light of a picture: each parameter uniform in its range, a function of (seed, picture) alone."""
    ranges = (BRIGHTNESS, CONTRAST, SATURATION, HUE)
    draws = uniforms(seed, CHANGED_LIGHT, picture, len(ranges))
    return Light(*(low + (high - low) * float(draw) for (low, high), draw in zip(ranges, draws, strict=True)))


def change_light(picture: UInt8[np.ndarray, "h w 3"], light: Light) -> UInt8[np.ndarray, "h w 3"]:
    """Apply a change of light to an RGB picture, in this order, each step clipped to 0..1 (`x` is value / 255):

    1. brightness: `b x`; 2. contrast: `m + c (x - m)`, m the mean luma of the picture; 3. saturation: `g + s (x - g)`,
    g the luma of the pixel; 4. hue: turned by `360 hue` degrees in HSV. Luma is 0.299 R + 0.587 G + 0.114 B; the
    result is rounded to 8 bits.
    """
    x = picture.astype(np.float32) / np.float32(255)
    x = _between(x, np.float32(0), light.brightness)
    x = _between(x, (x @ _LUMA).mean(dtype=np.float64).astype(np.float32), light.contrast)
    x = _between(x, (x @ _LUMA)[..., None], light.saturation)
    x = _turn_hue(x, light.hue)
    return np.rint(x * 255).astype(np.uint8)


def under(condition: str, picture: UInt8[np.ndarray, "h w 3"], *, seed: int, number: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with this number under one of `names.CONDITIONS`."""
    if condition == CLEAN:
        return picture
    return change_light(picture, draw_light(seed, number))


def settings_of(seed: int) -> dict[str, object]:
    """The change of light, for the record."""
    return {
        "seed": seed,
        "brightness": BRIGHTNESS,
        "contrast": CONTRAST,
        "saturation": SATURATION,
        "hue": HUE,
        "order": "brightness, contrast, saturation, hue",
    }


def _between(
    x: Float32[np.ndarray, "h w 3"], anchor: Float32[np.ndarray, "h w 1"] | np.float32, factor: float
) -> Float32[np.ndarray, "h w 3"]:
    """Move every value from the anchor away (factor above 1) or towards it (below 1)."""
    return np.clip(anchor + np.float32(factor) * (x - anchor), 0, 1)


def _turn_hue(x: Float32[np.ndarray, "h w 3"], hue: float) -> Float32[np.ndarray, "h w 3"]:
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)  # float32: H in degrees, S and V in 0..1
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * hue)) % 360
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0, 1)

"""The conditions a picture is evaluated under: as it is (`clean`), under `changed light`, and each change by itself.

Features that mean something stay put when light, sharpness and size change; features that are colour do not. A change
is a fixed function of (seed, the picture's number), so every encoder and every checkpoint meets the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from vice.data_specs.errors import InputError
from vice.evaluate.counters import uniforms
from vice.evaluate.names import CHANGED_LIGHT, CLEAN

DEFAULT = (CLEAN, CHANGED_LIGHT)
"""Conditions of an evaluation where nothing else is asked."""

BRIGHTNESS = (0.6, 1.4)
CONTRAST = (0.6, 1.4)
SATURATION = (0.5, 1.5)
HUE = (-0.05, 0.05)
BLUR = 1 / 240
"""Deviation of the Gaussian as a share of the shorter side: 1.5 pixels of a picture 360 high."""
NOISE = 0.06
"""Deviation of the Gaussian added to every value, as a share of the full range."""
SIZE = 0.5
"""Factor of both sides."""

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


def blurred(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Out of focus: a Gaussian whose deviation is BLUR times the shorter side."""
    return cv2.GaussianBlur(picture, ksize=(0, 0), sigmaX=BLUR * min(picture.shape[:2]))


def noisy(picture: UInt8[np.ndarray, "h w 3"], seed: int, number: int) -> UInt8[np.ndarray, "h w 3"]:
    """Gaussian noise of deviation NOISE, independent for every value (Box and Muller's transform of uniforms)."""
    draws = uniforms(seed, "noise", number, 2 * picture.size).astype(np.float32).reshape(2, *picture.shape)
    normal = np.sqrt(-2 * np.log1p(-draws[0])) * np.cos(np.float32(2 * np.pi) * draws[1])
    return np.clip(np.rint(picture + np.float32(255 * NOISE) * normal), 0, 255).astype(np.uint8)


def smaller(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture at SIZE times its size."""
    height, width = (max(1, round(side * SIZE)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _only(part: str) -> Callable[[np.ndarray, int, int], np.ndarray]:
    """One part of the change of light (`brightness`, ...) with the strength it has there, the others left out."""
    parts = {"colour": ("saturation", "hue")}.get(part, (part,))

    def changed(picture: np.ndarray, seed: int, number: int) -> np.ndarray:
        light = draw_light(seed, number)
        return change_light(picture, Light(**{name: getattr(light, name) for name in parts}))

    return changed


CHANGES: Mapping[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    CLEAN: lambda picture, seed, number: picture,
    CHANGED_LIGHT: lambda picture, seed, number: change_light(picture, draw_light(seed, number)),
    "brightness": _only("brightness"),
    "contrast": _only("contrast"),
    "colour": _only("colour"),
    "blur": lambda picture, seed, number: blurred(picture),
    "noise": noisy,
    "half size": lambda picture, seed, number: smaller(picture),
}
"""Every condition by its name: (picture, seed, the picture's number) to the picture under it."""


def under(
    condition: str, picture: UInt8[np.ndarray, "h w 3"], *, seed: int, number: int
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture with this number under one of `CHANGES`; smaller than it was under `half size` alone."""
    return CHANGES[condition](picture, seed, number)


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Conditions as a command line asks for them, `clean` always first; `all` stands for every one.

    Raises:
        InputError: no such condition.
    """
    wanted = [name for asked in names for name in (CHANGES if asked == "all" else (asked,))]
    for name in wanted:
        if name not in CHANGES:
            raise InputError("no such condition", where=name, hint=f"choose from all, {', '.join(CHANGES)}")
    return tuple(dict.fromkeys((CLEAN, *wanted)))


def settings_of(conditions: Sequence[str], seed: int) -> dict[str, object]:
    """The conditions with the strength of every change, for the record."""
    light = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE}
    strengths = {
        CLEAN: "as stored",
        CHANGED_LIGHT: {**light, "order": "brightness, contrast, saturation, hue", "draw": "uniform, per picture"},
        "brightness": {"factor": BRIGHTNESS},
        "contrast": {"factor": CONTRAST},
        "colour": {"saturation": SATURATION, "hue": HUE},
        "blur": {"deviation_as_share_of_shorter_side": BLUR},
        "noise": {"deviation_as_share_of_range": NOISE},
        "half size": {"factor": SIZE, "labels": "at full size: scores are brought to it bilinearly"},
    }
    return {"seed": seed, **{name: strengths[name] for name in conditions}}


def _between(
    x: Float32[np.ndarray, "h w 3"], anchor: Float32[np.ndarray, "h w 1"] | np.float32, factor: float
) -> Float32[np.ndarray, "h w 3"]:
    """Move every value from the anchor away (factor above 1) or towards it (below 1)."""
    return np.clip(anchor + np.float32(factor) * (x - anchor), 0, 1)


def _turn_hue(x: Float32[np.ndarray, "h w 3"], hue: float) -> Float32[np.ndarray, "h w 3"]:
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)  # float32: H in degrees, S and V in 0..1
    hsv[..., 0] = (hsv[..., 0] + np.float32(360 * hue)) % 360
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0, 1)

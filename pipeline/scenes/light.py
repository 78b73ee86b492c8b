"""Outdoor light of one scene and the camera that takes it: sun, sky light, haze; exposure, white balance, noise.

First and last in the flow of a scene: `draw_light` comes before anything is placed, `develop` turns the painted
radiance into the 8-bit picture. The camera meets its drawn brightness, contrast, colour cast and colourfulness by
measuring the picture, as automatic exposure and white balance do, so that pictures spread as CamVid's do whatever
stands in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vice.pipeline.scenes.measure import LUMA

# Ranges over the 367 pictures of CamVid's training split, reduced to 320×240: quantiles 0.01 and 0.99 of each measure
# of `picture_light` (day, winter sun and dusk drives together), printed by `benchmarks/camvid_light.py`.
BRIGHTNESS = (47.0, 164.0)
CONTRAST = (50.0, 83.0)
RELATIVE_CONTRAST = (0.41, 1.13)
COLOURFULNESS = (0.055, 0.176)
RED_GREEN = (0.844, 1.034)
BLUE_GREEN = (0.973, 1.076)
NOISE = (0.45, 2.5)
GAMMA = (0.35, 1.1)
"""Exponents of the camera's tone curve."""

LEFT_RIGHT = (-0.67, 0.58)
"""Measured with what stands left and right; light alone is drawn from a quarter of it."""


@dataclass(frozen=True)
class Light:
    """Light and camera of one scene. Colours are linear R, G, B, float32 [3]; directions x right, y up, z away."""

    sun_direction: np.ndarray
    """Unit vector towards the sun."""
    sun: np.ndarray
    """Irradiance of a surface that faces the sun; near zero when overcast."""
    ambient: np.ndarray
    """Irradiance from the sky and from around."""
    sky_zenith: np.ndarray
    sky_horizon: np.ndarray
    sky_level: float
    """Radiance of the sky against that of a white surface."""
    cloudiness: float
    """Share of the sky under cloud, 0..1."""
    haze: float
    """Extinction per metre."""
    gradient: np.ndarray
    """Change of light across the picture's width and height, as a share of its mean."""
    brightness: float
    contrast: float
    colourfulness: float
    red_green: float
    blue_green: float
    blur: float
    """Standard deviation of the lens's blur, pixels."""
    noise: float
    """Standard deviation of the sensor's noise in middle grey, 0..255."""

    def shade(self, normal: np.ndarray) -> np.ndarray:
        """Irradiance (float32 [3]) of a surface with unit normal [3]; one that looks down sees less of the sky."""
        facing = max(float(np.dot(normal, self.sun_direction)), 0.0)
        return self.ambient * np.float32(0.75 + 0.25 * normal[1]) + self.sun * np.float32(facing)

    @property
    def ground(self) -> np.ndarray:
        """Irradiance (float32 [3]) of level ground in the open."""
        return self.shade(np.array([0.0, 1.0, 0.0]))

    @property
    def shadow(self) -> np.ndarray:
        """What is left of the ground's irradiance out of the sun, float32 [3], 0..1."""
        return self.ambient / self.ground

    @property
    def air(self) -> np.ndarray:
        """Radiance (float32 [3]) that distance fades into."""
        return self.sky_horizon * np.float32(0.6 * min(self.sky_level, 1.6))


# Sky colours at the zenith and at the horizon, linear: clear, pale, overcast, white, dusk, evening.
SKIES = np.array(
    [
        [[0.16, 0.36, 0.85], [0.62, 0.78, 1.00]],
        [[0.42, 0.60, 0.90], [0.85, 0.92, 1.00]],
        [[0.62, 0.66, 0.72], [0.80, 0.82, 0.84]],
        [[0.92, 0.94, 0.97], [1.00, 1.00, 1.00]],
        [[0.30, 0.36, 0.50], [0.62, 0.60, 0.66]],
        [[0.42, 0.48, 0.66], [1.00, 0.70, 0.46]],
    ],
    np.float32,
)


def draw_light(gen: np.random.Generator) -> Light:
    """Draw the light and camera of one scene."""
    first, second = gen.choice(len(SKIES), 2)
    zenith, horizon = SKIES[first] + gen.uniform(0, 0.5) * (SKIES[second] - SKIES[first])
    sunny = gen.uniform(0, 1) ** 0.8
    azimuth, elevation = gen.uniform(-np.pi, np.pi), np.deg2rad(gen.uniform(10, 60))
    warmth = gen.uniform(0, 0.35) * (1 - elevation)
    sun = np.array([1 + warmth, 1, 1 - warmth]) * sunny * gen.uniform(1.0, 2.2)
    ambient = (0.6 + 0.4 * zenith / zenith.mean()) * gen.uniform(0.5, 0.9)
    across = np.array(LEFT_RIGHT) / 4
    brightness = gen.uniform(*BRIGHTNESS)
    return Light(
        sun_direction=np.array(
            [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
        ),
        sun=sun.astype(np.float32),
        ambient=ambient.astype(np.float32),
        sky_zenith=zenith,
        sky_horizon=horizon,
        sky_level=float(np.exp(gen.uniform(np.log(1.5), np.log(7.0)))),
        cloudiness=gen.uniform(0, 1),
        haze=float(np.exp(gen.uniform(np.log(0.0008), np.log(0.008)))),
        gradient=np.array([gen.uniform(*across), gen.uniform(*across)], np.float32),
        brightness=brightness,
        contrast=float(np.clip(gen.uniform(*CONTRAST), *(brightness * np.array(RELATIVE_CONTRAST)))),
        colourfulness=gen.uniform(*COLOURFULNESS),
        red_green=gen.uniform(*RED_GREEN),
        blue_green=gen.uniform(*BLUE_GREEN),
        blur=gen.uniform(0.25, 0.75),
        noise=gen.uniform(*NOISE) * 0.8,
    )


def develop(radiance: np.ndarray, light: Light, gen: np.random.Generator) -> np.ndarray:
    """Take the picture of painted radiance.

    Args:
        radiance: float32 [h, w, 3], linear, unbounded above.
        light: the scene's light and camera.
        gen: draws the sensor's noise.

    Returns:
        uint8 [h, w, 3], RGB.
    """
    height, width = radiance.shape[:2]
    x, y = np.linspace(-0.5, 0.5, width, dtype=np.float32), np.linspace(-0.5, 0.5, height, dtype=np.float32)
    radiance = radiance * (1 + light.gradient[0] * x + light.gradient[1] * y[:, None])[..., None]
    picture = _balance(_expose(cv2.GaussianBlur(radiance, (0, 0), light.blur), light), light)
    # Photon noise: it grows with the square root of light, and most of a camera's colour noise is filtered out.
    noise = gen.standard_normal((height, width, 1), np.float32) + 0.35 * gen.standard_normal(
        (height, width, 3), np.float32
    )
    picture += noise * np.sqrt(picture / 128) * np.float32(light.noise)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _tone(radiance: np.ndarray, exposure: float, gamma: float) -> np.ndarray:
    """Camera response, 0..255: highlights roll off, then a power law."""
    return 255 * (1 - np.exp(np.float32(-exposure) * radiance)) ** np.float32(gamma)


def _expose(radiance: np.ndarray, light: Light) -> np.ndarray:
    """Choose exposure and tone curve (by bisection on every eighth pixel) for the drawn mean and contrast of luma."""
    sample = np.ascontiguousarray(radiance[4::8, 4::8])
    low, high = GAMMA
    for _ in range(5):
        gamma = (low + high) / 2
        luma = _tone(sample, _exposure(sample, light.brightness, gamma), gamma) @ LUMA
        low, high = (gamma, high) if luma.std() < light.contrast else (low, gamma)
    picture = _tone(radiance, _exposure(sample, light.brightness, gamma), gamma)
    # What the curve cannot give, a little stretching does.
    luma = picture[::4, ::4] @ LUMA
    scale = np.clip(light.contrast / max(float(luma.std()), 1.0), 0.8, 1.2)
    return np.clip(np.float32(scale) * (picture - luma.mean()) + np.float32(light.brightness), 0, 255)


def _exposure(sample: np.ndarray, brightness: float, gamma: float) -> float:
    """The exposure that gives mean luma `brightness`."""
    low, high = np.log(0.003), np.log(300.0)
    for _ in range(12):
        middle = (low + high) / 2
        dark = (_tone(sample, np.exp(middle), gamma) @ LUMA).mean() < brightness
        low, high = (middle, high) if dark else (low, middle)
    return float(np.exp(low))


def _balance(picture: np.ndarray, light: Light) -> np.ndarray:
    """Make the channels' means equal, scale chroma to the drawn colourfulness, then add the drawn cast."""
    sample = np.ascontiguousarray(picture[::3, ::3])
    means = sample.reshape(-1, 3).mean(axis=0)
    level = float(means @ LUMA)
    even, chroma = (level / means).astype(np.float32), 1.0
    for _ in range(4):
        seen = _recolour(sample, even, chroma)
        highest = np.maximum(seen.max(axis=2), 1)
        colourfulness = float(((highest - seen.min(axis=2)) / highest).mean())
        chroma = float(np.clip(chroma * light.colourfulness / max(colourfulness, 1e-3), 0.1, 3.5))
    picture = _recolour(picture, even, chroma)
    cast = np.array([light.red_green, 1, light.blue_green], np.float32)
    # Clipped highlights are white whatever the cast.
    highlight = (picture @ LUMA / 255)[..., None] ** 4
    return np.clip(picture * (1 + (1 - highlight) * (cast / float(cast @ LUMA) - 1)), 0, 255)


def _recolour(picture: np.ndarray, gain: np.ndarray, chroma: float) -> np.ndarray:
    """Scale the channels by `gain`, then chroma about luma."""
    even = picture * gain
    luma = (even @ LUMA)[..., None]
    return np.clip(luma + np.float32(chroma) * (even - luma), 0, 255)

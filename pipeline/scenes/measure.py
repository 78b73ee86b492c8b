"""What a picture's light is, in numbers: the same measure for CamVid's photographs and for the generated scenes.

`benchmarks/camvid_light.py` applies it to CamVid, whose ranges stand in `light.py`; the tests apply it to scenes.
"""

from __future__ import annotations

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of R, G, B in luma (Rec. 601, as JPEG has it)."""


def picture_light(picture: np.ndarray) -> dict[str, float]:
    """Measure the light of one picture.

    Args:
        picture: uint8 [h, w, 3], RGB.

    Returns:
        `brightness` and `contrast`: mean and standard deviation of luma, 0..255; `relative`: their ratio.
        `saturation`: mean of (max - min) / max over R, G, B, 0..1; `colourfulness`: the same once the channels' means
        are made equal, so without the cast. `red_green`, `blue_green`: ratios of channel means. `left_right`,
        `up_down`: mean luma of one half less that of the other, over the picture's mean. `noise`: standard deviation
        of the finest detail in the smoothest quarter of 8×8 blocks, 0..255.
    """
    luma = picture.astype(np.float32) @ LUMA
    mean = max(float(luma.mean()), 1.0)
    red, green, blue = np.maximum(picture.reshape(-1, 3).mean(axis=0), 1.0)
    height, width = luma.shape
    return {
        "brightness": mean,
        "contrast": float(luma.std()),
        "relative": float(luma.std()) / mean,
        "saturation": _saturation(picture.astype(np.float32)),
        "colourfulness": _saturation(picture * (mean / np.array([red, green, blue], np.float32))),
        "red_green": float(red / green),
        "blue_green": float(blue / green),
        "left_right": float(luma[:, : width // 2].mean() - luma[:, width // 2 :].mean()) / mean,
        "up_down": float(luma[: height // 2].mean() - luma[height // 2 :].mean()) / mean,
        "noise": _noise(luma),
    }


def _saturation(picture: np.ndarray) -> float:
    highest = np.maximum(picture.max(axis=2), 1)
    return float(((highest - picture.min(axis=2)) / highest).mean())


def _noise(luma: np.ndarray) -> float:
    """Standard deviation of white noise, estimated from the smoothest quarter of 8×8 blocks that are not clipped."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    detail = cv2.filter2D(luma, -1, kernel)
    blocks = detail[: detail.shape[0] // 8 * 8, : detail.shape[1] // 8 * 8].reshape(detail.shape[0] // 8, 8, -1, 8)
    means = luma[: detail.shape[0] // 8 * 8, : detail.shape[1] // 8 * 8].reshape(blocks.shape).mean(axis=(1, 3))
    spread = blocks.std(axis=(1, 3))[(means > 8) & (means < 247)]
    return float(np.quantile(spread, 0.25)) if spread.size else 0.0


def class_colours(picture: np.ndarray, labels: np.ndarray, num_classes: int, *, least: int = 200) -> np.ndarray:
    """Mean colour of every class in one picture.

    Args:
        picture: uint8 [h, w, 3], RGB.
        labels: uint8 or uint16 [h, w].
        num_classes: number of classes C.
        least: a class with fewer pixels than this counts as absent.

    Returns:
        float64 [C, 3]: R, G, B in 0..255; NaN for an absent class.
    """
    flat = labels.ravel()
    counts = np.bincount(flat, minlength=num_classes)[:num_classes].astype(np.float64)
    counts[counts < least] = np.nan
    sums = [np.bincount(flat, picture[..., i].ravel(), minlength=num_classes)[:num_classes] for i in range(3)]
    return np.stack(sums, axis=1) / counts[:, None]

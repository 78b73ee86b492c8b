"""Numbers as colours: classes, clusters and embeddings as RGB pictures, alike in all pictures of a result."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import scipy.linalg
from jaxtyping import Float32, Integer, UInt8

from vice.data_specs.regions import IGNORE

PNG_COMPRESSION = 6
"""zlib's default: of the demo's pictures it makes files 5 % larger than the strongest, in a fifth of its time."""

UNLABELLED = (48, 48, 48)
"""Colour of pixels without a label."""


def palette(count: int) -> UInt8[np.ndarray, "count 3"]:
    """RGB colours that are easy to tell apart: each as far as can be (CIELAB) from those before it and UNLABELLED.

    The first colours are the same for every count.
    """
    steps = np.linspace(0, 1, 13, dtype=np.float32)
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = cv2.cvtColor(np.concatenate([rgb, np.float32([UNLABELLED]) / 255])[None], cv2.COLOR_RGB2LAB)[0]
    # Near-white vanishes on the page, near-black beside UNLABELLED; the loudest colours tire the eye.
    usable = (lab[:-1, 0] > 32) & (lab[:-1, 0] < 90) & (np.hypot(lab[:-1, 1], lab[:-1, 2]) < 66)
    rgb, distance = rgb[usable], np.linalg.norm(lab[:-1][usable] - lab[-1], axis=1)
    lab = lab[:-1][usable]
    colours = np.empty((count, 3), np.float32)
    for place in range(count):
        farthest = distance.argmax()
        colours[place] = rgb[farthest]
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=1))
    return np.rint(colours * 255).astype(np.uint8)


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Class to the colour that `paint_labels` and `palette` give it, as `#rrggbb`."""
    return {name: f"#{bytes(colour).hex()}" for name, colour in zip(classes, palette(len(classes)), strict=True)}


def paint_labels(labels: Integer[np.ndarray, "h w"], *, num_classes: int) -> UInt8[np.ndarray, "h w 3"]:
    """A label map in the classes' colours, IGNORE in dark grey."""
    colours = np.concatenate([palette(num_classes), np.array([UNLABELLED], np.uint8)])
    return colours[np.where(labels == IGNORE, num_classes, labels)]


class PrincipalColours(NamedTuple):
    """An encoder's three main directions as red, green and blue: one basis for all its pictures."""

    mean: Float32[np.ndarray, " d"]
    directions: Float32[np.ndarray, "3 d"]
    low: Float32[np.ndarray, " 3"]
    """Coordinate shown as 0 (2nd percentile of the vectors)."""
    high: Float32[np.ndarray, " 3"]
    """Coordinate shown as 255 (98th percentile)."""

    def paint(
        self, embedding: Float32[np.ndarray, "d gh gw"], height: int, width: int, *, stride: int
    ) -> UInt8[np.ndarray, "h w 3"]:
        """An embedding map, of so many pixels a cell, as a picture of the given size."""
        _, rows, columns = embedding.shape
        places = self.directions @ (embedding.reshape(len(self.mean), -1) - self.mean[:, None])
        shares = np.clip((places - self.low[:, None]) / (self.high - self.low)[:, None], 0, 1)
        cells = np.rint(shares.T * 255).astype(np.uint8).reshape(rows, columns, 3)
        whole = cv2.resize(cells, (columns * stride, rows * stride), interpolation=cv2.INTER_LINEAR)
        return whole[:height, :width]


def principal_colours(vectors: Float32[np.ndarray, "n d"]) -> PrincipalColours:
    """The basis from an encoder's vectors; each direction's sign makes its largest part positive.

    With d below 3 the missing colours stay 0.
    """
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = vectors - mean
    depth = len(mean)
    covariance = (centred.T @ centred).astype(np.float64)
    _, directions = scipy.linalg.eigh(covariance, subset_by_index=(max(0, depth - 3), depth - 1))
    main = np.zeros((3, len(mean)), np.float32)
    for place, direction in enumerate(directions.T[::-1][:3]):
        main[place] = direction * np.sign(direction[np.abs(direction).argmax()])
    low, high = np.percentile(centred @ main.T, (2, 98), axis=0).astype(np.float32)
    return PrincipalColours(mean, main, low, np.maximum(high, low + np.float32(1e-6)))


def save_png(path: Path, picture: UInt8[np.ndarray, "h w 3"], *, max_side: int, blend: bool) -> None:
    """Write an RGB picture as PNG, made smaller where its longer side is above `max_side`.

    Args:
        path: the file; its folder exists.
        picture: RGB.
        max_side: in pixels.
        blend: average pixels when making it smaller; class colours must not be averaged.
    """
    path.write_bytes(_png(picture, max_side=max_side, blend=blend))


def save_drawn(run_dir: Path, file: str, picture: UInt8[np.ndarray, "h w 3"], *, max_side: int, blend: bool) -> str:
    """Write a drawn picture of an entry; its name ends with a digest, so that entries never overwrite each other's.

    Args:
        run_dir: that `file` is relative to; folders are made.
        file: its name without suffix.
        picture: as `save_png` takes it, with what follows.
        max_side: in pixels.
        blend: see `save_png`.

    Returns:
        The path of the file relative to `run_dir`.
    """
    data = _png(picture, max_side=max_side, blend=blend)
    file = f"{file.replace(' ', '_')}-{hashlib.sha256(data).hexdigest()[:8]}.png"
    (run_dir / file).parent.mkdir(parents=True, exist_ok=True)
    (run_dir / file).write_bytes(data)
    return file


def _png(picture: UInt8[np.ndarray, "h w 3"], *, max_side: int, blend: bool) -> bytes:
    height, width = picture.shape[:2]
    scale = max_side / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if blend else cv2.INTER_NEAREST)
    _, data = cv2.imencode(
        ".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION]
    )
    return data.tobytes()

"""Bytes of any picture file → the standardised picture of a sample, as a reader of the shards will decode it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.decoding import decode_rgb, decode_strictly
from vice.pipeline.prep.depth import Depth
from vice.pipeline.prep.geometry import Geometry, plan_geometry
from vice.pipeline.prep.headers import Header, read_header
from vice.pipeline.prep.rejection import Rejected

_PICTURE_VERSION = "3"
_REDUCED_VERSION = "reduced JPEG 1"

MIN_SIDE = 32
"""Pictures whose shorter side is smaller, in pixels once standardised, are refused."""

MAX_SIDE = 65_500
"""What a JPEG can hold."""

MAX_STORED_PIXELS = 1 << 30
"""What OpenCV decodes, as a reader of the shards does."""

JPEG_QUALITY = 95

_SEVERAL = "several pages or frames, of which only the first is stored"

_OF_NUMBERS = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_COMPRESSION, 5]
"""Maps of numbers repeat themselves from row to row, which deflate finds by itself; filters made for pictures hide it.
Level 5 is the fastest at which regions of 20 pixels take about a third of their JPEG (docs/results.md)."""


@dataclass(frozen=True)
class StandardPicture:
    """A picture as it is stored."""

    data: bytes
    """The encoded picture: the original bytes or a new JPEG or PNG."""
    pixels: np.ndarray
    """uint8 [h, w, 3] RGB, decoded from `data`: region and density maps are made from this."""
    geometry: Geometry
    """How it came from the source's pixels."""
    source_size: tuple[int, int]
    """Width and height as stored in the source file, before any turn."""
    kept_original: bool
    """Whether `data` is the source file itself."""
    depth: Depth | None
    """Of a source file of 16 bits per channel, see `Decoded`."""
    notes: tuple[str, ...]
    """What should be known of how it is stored."""


def picture_version(settings: PrepSettings) -> str:
    """Version of what makes the stored picture's bytes under these settings."""
    return _PICTURE_VERSION if settings.short_side is None else f"{_PICTURE_VERSION}, {_REDUCED_VERSION}"


def standardise(data: bytes, settings: PrepSettings) -> StandardPicture:
    """Decode, turn upright, resize and crop a picture, and encode it anew unless its own bytes will do.

    The original bytes are kept if they are an 8-bit Huffman JPEG of 1 or 3 components that is upright, ends properly
    and is decoded without a warning, and if it is neither resized nor cropped.

    Raises:
        Rejected: it cannot be read, or is too large or too small.
    """
    header = read_header(data, settings.max_pixels)
    geometry = plan_geometry(header.width, header.height, header.orientation, settings)
    if min(geometry.crop[2:]) < MIN_SIDE:
        raise Rejected("picture", _too_small(geometry), "too-small")
    if max(geometry.crop[2:]) > MAX_SIDE or geometry.crop[2] * geometry.crop[3] > MAX_STORED_PIXELS:
        raise Rejected("picture", "too large to be stored: choose a smaller max_side", "too-large")
    stored, pixels = data, _original_pixels(data, header, geometry, settings)
    kept, depth = pixels is not None, None
    if pixels is None:
        reduction = 1 if settings.short_side is None else geometry.reduction
        whole, depth = decode_strictly(
            data, header, settings.max_pixels, reduction=reduction, white_level=settings.white_level
        )
        stored = _encode(geometry.picture(whole), settings)
        pixels, _ = decode_rgb(stored)
    notes = (depth and depth.note(settings.white_level), _SEVERAL if header.several else None)
    size = header.width, header.height
    return StandardPicture(stored, pixels, geometry, size, kept, depth, tuple(filter(None, notes)))


def _too_small(geometry: Geometry) -> str:
    """What is too small, and the setting that would keep it."""
    width, height = geometry.crop[2:]
    if geometry.resized == geometry.upright or min(geometry.upright) < MIN_SIDE:
        return f"{width} × {height} is smaller than {MIN_SIDE} pixels"
    longest, shortest = max(geometry.upright), min(geometry.upright)
    needed = -(-MIN_SIDE * longest // shortest)
    size = f"{geometry.upright[0]} × {geometry.upright[1]} becomes {width} × {height}"
    return f"{size}, smaller than {MIN_SIDE} pixels: --max-side {needed} keeps it"


def _original_pixels(data: bytes, header: Header, geometry: Geometry, settings: PrepSettings) -> np.ndarray | None:
    """The pixels of the original bytes as a reader decodes them, or None where these bytes cannot be stored."""
    if settings.picture != "jpeg" or not geometry.changes_nothing or not header.plain_jpeg:
        return None
    pixels, clean = decode_rgb(data)
    if pixels is None or not clean or pixels.shape[:2] != (header.height, header.width):
        return None
    # Readers differ in which damaged EXIF they still follow, so a file that has one must decode alike either way.
    if b"Exif\0\0" in data and not np.array_equal(pixels, decode_rgb(data, turn=False)[0]):
        return None
    return pixels


def _encode(pixels: np.ndarray, settings: PrepSettings) -> bytes:
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    if settings.picture == "png":
        return cv2.imencode(".png", bgr)[1].tobytes()
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def encode_map(array: np.ndarray) -> bytes:
    """A map, uint8 or uint16 [h, w], as a grey PNG of 8 or 16 bits."""
    return cv2.imencode(".png", array, _OF_NUMBERS if array.dtype == np.uint16 else [])[1].tobytes()

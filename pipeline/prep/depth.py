"""Files of more than 8 bits per channel: which value is white, and how they become 8 bits.

Cameras and microscopes write 10, 12 or 14 bits into files of 16, which are then nearly black if 65535 is white.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

FULL = 65535

_BAND = 64
"""Rows that are converted at once: what conversions take of memory does not grow with the picture."""

_TIFF_BITS = 0x0102
_TIFF_WHITES = (0x0119, 0x0155, 0xC61D)
"""MaxSampleValue, SMaxSampleValue, and DNG's WhiteLevel."""

WhiteLevel = int | Literal["auto"] | None
"""`PrepSettings.white_level`."""


class Depth(NamedTuple):
    """What a file of 16 bits per channel holds."""

    maximum: int
    """Largest value of a colour or of grey."""
    white: int
    """The value that is stored as white; larger ones are too."""

    def note(self, white_level: WhiteLevel) -> str | None:
        """What should be known of how it is stored, None where all of its range was used."""
        if self.maximum > self.white:
            return f"16 bits with values above the white level {self.white}, which are stored as white"
        if self.white != FULL:
            return f"16 bits, white level {self.white}"
        if self.maximum <= FULL // 2 and white_level in (None, "auto"):
            level = full_range(self.maximum)
            return f"16 bits, but no value above {level}: stored dark (shard again with --white-level {level})"
        return None


def full_range(maximum: int) -> int:
    """The smallest 2^n-1, of 255 or more, that is not below `maximum`."""
    return max(255, (1 << maximum.bit_length()) - 1)


def bits_per_channel(image: Image.Image, data: bytes) -> int:
    """Bits of the values that decoding gives: 16 where the file does not say which of 65,536 values is white.

    Args:
        image: opened, not yet loaded.
        data: its file.
    """
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS, (8,))
        return max(bits) if isinstance(bits, tuple) else bits
    if image.format == "JPEG2000":  # fewer bits than 16 are scaled to 16 by its decoder
        at = data.find(b"\xff\x4f\xff\x51") + 42
        return 16 if data[at : at + 1] == b"\x0f" else 8
    if image.format == "PPM":  # so are other largest values than 65535
        raw = image.tile[0][3]
        return 16 if raw == "I;16B" or raw[-1] == FULL else 8
    return 8


def choose_white(white_level: WhiteLevel, maximum: int, image: Image.Image, data: bytes) -> int:
    """The value that becomes white in a picture of 16 bits per channel.

    With `auto` the smallest 2^n-1 that neither the file's values nor the maximum in its metadata exceed: PNG's sBIT
    alone does not tell whether values were shifted to the top of the 16 bits, as its specification demands.
    """
    if white_level is None:
        return FULL
    return full_range(max(maximum, _white_in_metadata(image, data))) if white_level == "auto" else white_level


def _white_in_metadata(image: Image.Image, data: bytes) -> int:
    """The largest value according to the file, 0 where it says nothing."""
    if image.format == "PNG":
        return (1 << min(16, max(_significant_bits(data), default=0))) - 1
    found = [image.tag_v2.get(tag, ()) for tag in _TIFF_WHITES] if image.format == "TIFF" else []
    values = [value for one in found for value in (one if isinstance(one, tuple) else (one,))]
    return max((int(value) for value in values if isinstance(value, int | float) and 0 < value <= FULL), default=0)


def _significant_bits(png: bytes) -> bytes:
    """PNG's sBIT of grey or the three colours, empty where there is none."""
    at = 8
    while at + 8 <= len(png) and png[at + 4 : at + 8] != b"IDAT":
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"sBIT":
            return png[at + 8 : at + 8 + (3 if length >= 3 else 1)]
        at += 12 + length
    return b""


def largest(values: np.ndarray, transparent: int = -1) -> int:
    """Largest value of uint16 [h, w], transparent ones left out, or of the colours of [h, w, 3 or 4]."""
    shown = values[..., :3] if values.ndim == 3 else values[values != transparent] if transparent >= 0 else values
    return int(shown.max(initial=0))


def grey_in_8_bits(values: np.ndarray, white: int, *, transparent: int = -1, inverted: bool = False) -> np.ndarray:
    """Grey, uint16 [h, w], as uint8 [h, w, 3]; `white` and what is transparent become 255, or 0 if inverted."""
    rgb = np.empty((*values.shape, 3), np.uint8)
    for top in range(0, len(values), _BAND):
        band = values[top : top + _BAND]
        grey = _scaled(np.minimum(band, white), white)
        grey = 255 - grey if inverted else grey
        grey[band == transparent] = 255
        rgb[top : top + _BAND] = grey[..., None]
    return rgb


def colours_in_8_bits(bgr: np.ndarray, white: int) -> np.ndarray:
    """Colours, uint16 [h, w, 3] or with alpha [h, w, 4], as uint8 [h, w, 3] RGB; what is transparent lies over white.

    Alpha has the colours' scale, or the whole range of 16 bits where its values exceed `white`.
    """
    rgb = np.empty((*bgr.shape[:2], 3), np.uint8)
    opaque = FULL if bgr.shape[2] == 4 and bgr[..., 3].max() > white else white
    for top in range(0, len(bgr), _BAND):
        band = bgr[top : top + _BAND, :, [2, 1, 0, 3][: bgr.shape[2]]].astype(np.uint32)
        band[..., :3] = np.minimum(band[..., :3], white)
        if band.shape[2] == 4:
            band[..., 3] = (band[..., 3] * white + opaque // 2) // opaque  # white squared fits
            band = over_white(band, white)
        rgb[top : top + _BAND] = _scaled(band, white)
    return rgb


def over_white(rgba: np.ndarray, white: int) -> np.ndarray:
    """Lay [h, w, 4], values 0..white, over white: [h, w, 3]."""
    alpha = rgba[..., 3:].astype(np.uint32)
    return (rgba[..., :3] * alpha + white * (white - alpha) + white // 2) // white


def _scaled(values: np.ndarray, white: int) -> np.ndarray:
    """0..white to 0..255, rounded."""
    return (values.astype(np.uint32) * 255 + white // 2) // white

"""Decoders, made strict: no partial picture, no message lost on standard error.

Pillow decodes whatever will be encoded anew. OpenCV decodes what is stored, as the readers of the shards do, and
colours of 16 bits, of which Pillow drops half. Colour profiles, gamma and HDR gain maps are not applied: the pixels
count as they stand in the file.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from vice.pipeline.prep.depth import (
    FULL,
    Depth,
    WhiteLevel,
    bits_per_channel,
    choose_white,
    colours_in_8_bits,
    grey_in_8_bits,
    largest,
    over_white,
)
from vice.pipeline.prep.geometry import turn_back
from vice.pipeline.prep.headers import FLOAT_PIXELS, PROCESS_STATE, Header, opened, orientation_of
from vice.pipeline.prep.rejection import Rejected

_BAND = 64
"""Rows that are converted at once: what conversions take of memory does not grow with the picture."""

_TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 0x0106, 0x0153
_SIGNED = 2
_JPEG_WARNING = re.compile(r"JPEG|progression sequence|SOS parameters|Adobe color|JFIF revision")
"""Every warning of libjpeg, harmless ones too: it tells only the first of a file's."""


class Decoded(NamedTuple):
    """A picture decoded whole."""

    pixels: np.ndarray
    """uint8 [h, w, 3], RGB."""
    depth: Depth | None
    """Of a file of 16 bits per channel whose white is not known from its format."""


def decode_rgb(data: bytes, *, turn: bool = True) -> tuple[np.ndarray | None, bool]:
    """Decode as every reader of the shards does.

    Args:
        data: the encoded picture.
        turn: whether the decoder follows the EXIF orientation, as readers do.

    Returns:
        uint8 [h, w, 3] RGB or None, and whether the JPEG decoder had nothing to complain about.
    """
    flags = cv2.IMREAD_COLOR_RGB if turn else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels, messages = _decode(data, flags)
    return pixels, _JPEG_WARNING.search(messages) is None


def decode_strictly(
    data: bytes, header: Header, max_pixels: int, *, reduction: int = 1, white_level: WhiteLevel = None
) -> Decoded:
    """Decode any picture whole, without following its orientation.

    Grey, palette and CMYK pictures become RGB, 16 bits are scaled to 8, what is transparent is laid over white, of an
    animation the first frame is taken.

    Args:
        data: the encoded picture.
        header: its header.
        max_pixels: larger pictures are refused.
        reduction: 2, 4 or 8 decodes a JPEG at that fraction of its width and height, both of which it must divide;
            other formats are decoded at their full size.
        white_level: see `PrepSettings`.

    Raises:
        Rejected: it ends early, is corrupt, or has pixels that are no unsigned 8 or 16 bit integers.
    """
    with opened(data, max_pixels) as image:
        size = header.width, header.height
        try:
            bits = bits_per_channel(image, data)
            if reduction > 1 and image.format in ("JPEG", "MPO"):
                size = header.width // reduction, header.height // reduction
                image.draft(None, size)
            image.load()
            turned = header.orientation if image.format == "TIFF" else 1  # Pillow and OpenCV turn TIFF, and only TIFF
            decoded = _in_8_bits(image, data, bits, white_level)
        except Rejected:
            raise
        except Exception as error:  # decoders raise anything on corrupt bytes
            raise Rejected("picture", f"cannot be decoded whole ({error or type(error).__name__})") from None
    pixels = turn_back(decoded.pixels, turned)
    if pixels.shape[1::-1] != size:
        raise Rejected("picture", "its header and its pixels differ in size")
    return Decoded(pixels, decoded.depth)


def _in_8_bits(image: Image.Image, data: bytes, bits: int, white_level: WhiteLevel) -> Decoded:
    """The pixels of a loaded picture with so many bits per channel."""
    _refuse_other_numbers(image, bits)
    if image.mode.startswith("I"):
        return _of_grey(image, data, bits, white_level)
    if bits == 16 and image.mode in ("RGB", "RGBA", "LA"):
        if image.format in ("PNG", "TIFF") or white_level is not None:
            return _of_16_bit_colours(image, data, white_level)
        rgb, depth = _of_8_bits(image), None  # of other formats Pillow's upper 8 bits will do
        if rgb.max() < 128:
            with suppress(Rejected):
                depth = _of_16_bit_colours(image, data, None).depth
        return Decoded(rgb, depth)
    return Decoded(_of_8_bits(image), None)


def _refuse_other_numbers(image: Image.Image, bits: int) -> None:
    """Refuse pixels of a loaded picture that are no unsigned integers of up to 16 bits."""
    if image.mode == "F":
        raise Rejected("picture", FLOAT_PIXELS)
    if image.format == "TIFF" and bits <= 16 and _SIGNED in tuple(image.tag_v2.get(_TIFF_SAMPLE_FORMAT, ())):
        raise Rejected("picture", "signed pixels are not supported: convert to unsigned 8 or 16 bits")
    if image.mode == "I" and image.format != "PPM":
        raise Rejected("picture", "pixels of 32 bits are not supported: convert to 8 or 16 bits")


def _of_grey(image: Image.Image, data: bytes, bits: int, white_level: WhiteLevel) -> Decoded:
    grey = np.asarray(image).astype(np.uint16)
    transparent = image.info.get("transparency", -1)
    depth, white = None, 4095 if bits == 12 else FULL
    if bits == 16:
        maximum = largest(grey, transparent)
        white = choose_white(white_level, maximum, image, data)
        depth = Depth(maximum, white)
    inverted = image.format == "TIFF" and image.tag_v2.get(_TIFF_PHOTOMETRIC) == 0
    return Decoded(grey_in_8_bits(grey, white, transparent=transparent, inverted=inverted), depth)


def _of_16_bit_colours(image: Image.Image, data: bytes, white_level: WhiteLevel) -> Decoded:
    """Of a file that is known to be whole."""
    pixels, _ = _decode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise Rejected("picture", "its colours of 16 bits cannot be decoded")
    maximum = largest(pixels)
    white = choose_white(white_level, maximum, image, data)
    return Decoded(colours_in_8_bits(pixels, white), Depth(maximum, white))


def _of_8_bits(image: Image.Image) -> np.ndarray:
    """uint8 [h, w, 3]."""
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        if band.has_transparency_data:
            rgb[top : top + _BAND] = over_white(np.asarray(band.convert("RGBA")), 255)
        else:
            rgb[top : top + _BAND] = np.asarray(band.convert("RGB"))
    return rgb


def _decode(data: bytes, flags: int) -> tuple[np.ndarray | None, str]:
    """Decode with OpenCV; also returns what the decoders below it wrote on standard error, which is all they tell.

    It is caught in memory: a full disk must not make a corrupt file look clean.
    """
    with PROCESS_STATE, os.fdopen(os.memfd_create("stderr"), "w+b", buffering=0) as captured:
        if sys.stderr is not None:
            sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            pixels = None
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        captured.seek(0)
        return pixels, captured.read().decode("utf-8", "replace")


def decode_labels(data: bytes, max_pixels: int) -> np.ndarray:
    """Decode a label map; of a palette picture the indices count, not the colours. Its own orientation is not followed.

    Returns:
        uint8 or uint16 [h, w], values as in the file.

    Raises:
        Rejected: larger than `max_pixels`, not decodable or not one channel of integers.
    """
    with opened(data, max_pixels, stage="labels") as image:
        turned = orientation_of(image) if image.format == "TIFF" else 1
        try:
            array = np.asarray(image)
        except Exception as error:  # decoders raise anything on corrupt bytes
            raise Rejected("labels", f"label map cannot be decoded ({error or type(error).__name__})") from None
        if array.ndim != 2 or array.dtype.kind not in "bui":
            raise Rejected("labels", f"label map is {image.mode}, not one channel of integers")
    if array.min() < 0 or array.max() > 65535:
        raise Rejected("labels", "label map has values outside 0..65535")
    array = turn_back(array, turned if turned in range(1, 9) else 1)
    return array.astype(np.uint8 if array.dtype.itemsize == 1 else np.uint16)

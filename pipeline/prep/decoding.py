"""Decoders, made strict: header facts before any decoding, no partial picture, no message lost on standard error."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from vice.pipeline.prep.rejection import Rejected

MAX_PIXELS = 100_000_000
"""Pictures with more pixels are refused by their header, before memory is taken for them."""

_EXIF_ORIENTATION = 0x0112
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_WARNING = re.compile(r"JPEG|progression sequence|SOS parameters|Adobe color")
_HUFFMAN_8_BIT = {0xC0, 0xC1, 0xC2}
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Header(NamedTuple):
    """What a picture's header says."""

    width: int
    height: int
    orientation: int
    """EXIF orientation, 1..8."""
    plain: bool
    """The orientation is surely 1: none is given, or given and readable as 1."""


def read_header(data: bytes) -> Header:
    """Size and orientation of a picture, without decoding it.

    Raises:
        Rejected: no picture in a known format, or larger than MAX_PIXELS.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(BytesIO(data))
            width, height = image.size
        except Image.DecompressionBombError:
            raise Rejected("picture", f"its header claims more than {MAX_PIXELS:,} pixels") from None
        except Exception:  # a hostile header may make the parser raise anything
            raise Rejected("picture", "no picture in a known format") from None
        if width * height > MAX_PIXELS:
            raise Rejected("picture", f"{width} × {height} is more than {MAX_PIXELS:,} pixels")
        orientation = _orientation(image)
    return Header(width, height, orientation if orientation in range(1, 9) else 1, orientation in (None, 1))


def _orientation(image: Image.Image) -> int | None:
    """The orientation as given, None where there is none, 0 where it cannot be read."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # bad metadata are no reason to refuse good pixels
        return 0


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


def decode_strictly(data: bytes, header: Header) -> np.ndarray:
    """Decode any picture whole, without following its orientation.

    Grey and palette pictures become RGB, 16 bits are scaled to 8, what is transparent is laid over white, of an
    animation the first frame is taken.

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        Rejected: it ends early, is corrupt, or has pixels that are no 8 or 16 bit integers.
    """
    _refuse_partial(data)
    pixels, _ = _decode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise Rejected("picture", "cannot be decoded")
    if pixels.shape[:2] != (header.height, header.width):
        raise Rejected("picture", "its header and its pixels differ in size")
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise Rejected("picture", f"pixels are {pixels.dtype}, not integers of 8 or 16 bits")
    return _to_rgb(pixels)


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if channels == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if channels != 4:
        raise Rejected("picture", f"has {channels} channels")
    alpha = pixels[..., 3:].astype(np.uint32)
    over_white = pixels[..., 2::-1] * alpha + 255 * (255 - alpha)
    return ((over_white + 127) // 255).astype(np.uint8)


def _refuse_partial(data: bytes) -> None:
    """Pillow raises where OpenCV fills the rest of a cut file with grey."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Image.open(BytesIO(data)).load()
        except Exception as error:  # decoders raise anything on corrupt bytes
            raise Rejected("picture", f"cannot be decoded whole ({error or type(error).__name__})") from None


def _decode(data: bytes, flags: int) -> tuple[np.ndarray | None, str]:
    """Decode with OpenCV; also returns what the decoders below it wrote on standard error, which is all they tell."""
    with tempfile.TemporaryFile() as captured:
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


def decode_labels(data: bytes) -> np.ndarray:
    """Decode a label map; of a palette picture the indices count, not the colours.

    Returns:
        uint8 or uint16 [h, w], values as in the file.

    Raises:
        Rejected: not decodable or not one channel of integers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Rejected("labels", f"label map has more than {MAX_PIXELS:,} pixels")
                mode, array = image.mode, np.array(image)
        except Rejected:
            raise
        except Exception as error:  # decoders raise anything on corrupt bytes
            raise Rejected("labels", f"label map cannot be decoded ({error or type(error).__name__})") from None
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise Rejected("labels", f"label map is {mode}, not one channel of integers")
    if array.min() < 0 or array.max() > 65535:
        raise Rejected("labels", "label map has values outside 0..65535")
    return array.astype(np.uint8 if array.dtype.itemsize == 1 else np.uint16)


def is_plain_jpeg(data: bytes) -> bool:
    """Whether every reader decodes these bytes alike: an 8-bit Huffman JPEG of 1 or 3 components that ends properly.

    Ending properly: its end-of-image marker is also the end of the file.
    """
    if data[:2] != b"\xff\xd8":
        return False
    position, frames = 2, 0
    while True:
        match = _JPEG_MARKER.search(data, position)
        if match is None:
            return False
        marker, position = data[match.start() + 1], match.end()
        if marker == 0xD9:
            return frames == 1 and position == len(data)
        if marker in _FRAME_MARKERS:
            precision, components = data[position + 2 : position + 3], data[position + 7 : position + 8]
            if marker not in _HUFFMAN_8_BIT or precision != b"\x08" or components not in (b"\x01", b"\x03"):
                return False
            frames += 1
        position += int.from_bytes(data[position : position + 2], "big")

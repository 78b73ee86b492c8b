"""Decoders, made strict: header facts before any decoding, no partial picture, no message lost on standard error.

Pillow decodes whatever will be encoded anew, and only the formats named here: some of its others start programs.
OpenCV decodes what is stored, as the readers of the shards do, and colours of 16 bits, of which Pillow drops half.
Colour profiles, gamma and HDR gain maps are not applied: the pixels count as they stand in the file.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from PIL import (  # importing a plugin registers its format
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from vice.pipeline.prep.geometry import turn_back
from vice.pipeline.prep.rejection import Rejected

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")

_OTHER_KINDS = [
    (rb"....ftyp(hei|hev|mif1|msf1)", "HEIF"),
    (rb"....ftypcrx ", "a camera's raw file"),
    (rb"....ftyp(?!avi[fs])|....(moov|mdat)|RIFF....AVI |\x1aE\xdf\xa3", "video"),
    (rb"IIRO|IIRS|MMOR|IIU\0|FUJIFILM", "a camera's raw file"),
    (rb"8BPS", "Photoshop"),
    (rb"\xff\x0a|....JXL ", "JPEG XL"),
    (rb"\xef?\xbb?\xbf?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg", "SVG"),
    (rb"%PDF|%!PS", "PDF or PostScript"),
    (rb"v/1\x01|#\?R", "HDR radiance"),
]
"""How files begin that hold pictures which nothing here decodes, and what they are."""
_DECODED_KINDS = (
    rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|II\*\0|MM\0\*|BM|GIF8|....ftypavi[fs]|\xffO\xffQ|....jP  |P[1-6]\s"
)

_MAX_JPEG_SCANS = 100
"""Encoders write at most a few dozen; a small file of thousands takes hours."""
_MAX_PNG_TEXT = 16_000_000
"""Bytes of a PNG's colour profile or text once inflated: a large one is no reason to refuse good pixels."""
_BAND = 64
"""Rows that are converted at once: what conversions take of memory does not grow with the picture."""

_EXIF_ORIENTATION = 0x0112
_TIFF_SUBFILE, _TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_TILE = 0x00FE, 0x0102, 0x0106, (0x0142, 0x0143)
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_JPEG_WARNING = re.compile(r"JPEG|progression sequence|SOS parameters|Adobe color|JFIF revision")
"""Every warning of libjpeg, harmless ones too: it tells only the first of a file's."""
_HUFFMAN_8_BIT = {0xC0, 0xC1, 0xC2}
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_process_state = threading.RLock()
"""Pillow's limit, Python's warnings and standard error belong to the whole process: one thread at a time."""


class Header(NamedTuple):
    """What a picture's header says."""

    width: int
    height: int
    """Size in pixels as they stand in the file, before any turn."""
    orientation: int
    """EXIF orientation, 1..8."""
    plain_jpeg: bool
    """Whether every reader decodes these bytes alike and upright, see `is_plain_jpeg`."""


def read_header(data: bytes, max_pixels: int) -> Header:
    """Size and orientation of a picture, without decoding it.

    Raises:
        Rejected: no picture in a known format, larger than `max_pixels`, or its header contradicts itself.
    """
    with _opened(data, max_pixels) as image:
        given = _orientation(image)
        orientation = given if given in range(1, 9) else 1
        width, height = image.size
        if image.format == "TIFF" and image.tag_v2.get(_EXIF_ORIENTATION) in (5, 6, 7, 8):
            width, height = height, width  # Pillow tells the size after the turn, of TIFF alone
        plain = False
        if image.format in ("JPEG", "MPO"):
            jpeg = _walk_jpeg(data)
            _refuse_lying_jpeg(jpeg, width, height)
            plain = jpeg.plain and given in (None, 1)
    return Header(width, height, orientation, plain)


@contextmanager
def _opened(data: bytes, max_pixels: int, *, stage: str = "picture") -> Iterator[Image.Image]:
    """Open with Pillow under the given limit; whatever is raised inside becomes a rejection."""
    with _process_state, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pillows_limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS = max_pixels / 2  # it raises at the double; also where a frame is larger than the screen
        PngImagePlugin.MAX_TEXT_CHUNK = _MAX_PNG_TEXT
        try:
            try:
                image = Image.open(BytesIO(data), formats=_FORMATS)
            except Image.DecompressionBombError:
                raise Rejected(stage, f"its header claims more than {max_pixels:,} pixels") from None
            except Exception:  # a hostile header may make the parser raise anything
                raise Rejected(stage, _unknown(data, stage)) from None
            with image:
                if image.width * image.height > max_pixels:
                    raise Rejected(stage, f"{image.width} × {image.height} is more than {max_pixels:,} pixels")
                _refuse_lying_header(image, data, max_pixels, stage)
                yield image
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = pillows_limits


def _unknown(data: bytes, stage: str) -> str:
    """Why Pillow does not open a file."""
    known = (f"{name}: no decoder in this installation" for magic, name in _OTHER_KINDS if _begins(data, magic))
    reason = next(known, "its header is corrupt" if _begins(data, _DECODED_KINDS) else "no picture in a known format")
    return reason if stage == "picture" else f"label map cannot be decoded ({reason})"


def _begins(data: bytes, magic: bytes) -> bool:
    return re.match(magic, data[:1024], re.DOTALL) is not None


def _refuse_lying_header(image: Image.Image, data: bytes, max_pixels: int, stage: str) -> None:
    """Refuse what Pillow opens but would decode to something else or with far more memory than its size tells."""
    if image.format == "TIFF":
        if data[8:10] == b"CR" or _number(image.tag_v2.get(_TIFF_SUBFILE)) & 1:
            raise Rejected(stage, "its first picture is a thumbnail, as in cameras' raw files")
        tile_width, tile_height = (_number(image.tag_v2.get(tag)) for tag in _TIFF_TILE)
        if tile_width * tile_height > max_pixels:
            raise Rejected(stage, f"its header claims tiles of more than {max_pixels:,} pixels")
    if image.format == "JPEG2000":
        at = data.find(b"\xff\x4f\xff\x51") + 8
        right, bottom, left, top = (int.from_bytes(data[at + i : at + i + 4], "big") for i in range(0, 16, 4))
        if at == 7 or (right - left, bottom - top) != image.size:
            raise Rejected(stage, "its header and its pixels differ in size")


def _number(value: object) -> int:
    """A TIFF tag's value as an integer, 0 where it is none."""
    return value if isinstance(value, int) else 0


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


def decode_strictly(data: bytes, header: Header, max_pixels: int) -> np.ndarray:
    """Decode any picture whole, without following its orientation.

    Grey, palette and CMYK pictures become RGB, 16 bits are scaled to 8, what is transparent is laid over white, of an
    animation the first frame is taken.

    Returns:
        uint8 [h, w, 3], RGB.

    Raises:
        Rejected: it ends early, is corrupt, or has pixels that are no 8 or 16 bit integers.
    """
    with _opened(data, max_pixels) as image:
        try:
            image.load()
            turned = header.orientation if image.format == "TIFF" else 1  # Pillow and OpenCV turn TIFF, and only TIFF
            pixels = None if _has_16_bit_colours(image, data) else _rgb_of(image)
        except Rejected:
            raise
        except Exception as error:  # decoders raise anything on corrupt bytes
            raise Rejected("picture", f"cannot be decoded whole ({error or type(error).__name__})") from None
    if pixels is None:
        pixels = _rgb_of_16_bits(data)
    pixels = turn_back(pixels, turned)
    if pixels.shape[:2] != (header.height, header.width):
        raise Rejected("picture", "its header and its pixels differ in size")
    return pixels


def _has_16_bit_colours(image: Image.Image, data: bytes) -> bool:
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    if image.format == "TIFF":
        return 16 in tuple(image.tag_v2.get(_TIFF_BITS, ()))
    return image.format == "PNG" and data[24] == 16


def _rgb_of(image: Image.Image) -> np.ndarray:
    """The pixels of a loaded picture, uint8 [h, w, 3]."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        kind = {"F": "float32", "I": "int32"}[image.mode]
        raise Rejected("picture", f"pixels are {kind}, not integers of 8 or 16 bits")
    tags = image.tag_v2 if image.format == "TIFF" else {}
    white = 4095 if tuple(tags.get(_TIFF_BITS, ())) == (12,) else 65535
    inverted = tags.get(_TIFF_PHOTOMETRIC) == 0
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        if band.mode.startswith("I"):
            grey = np.asarray(band).astype(np.uint32)
            grey8 = (grey * 255 + white // 2) // white
            grey8 = 255 - grey8 if inverted else grey8
            grey8[grey == band.info.get("transparency", -1)] = 255
            rgb[top : top + _BAND] = grey8[..., None]
        elif band.has_transparency_data:
            rgb[top : top + _BAND] = _over_white(np.asarray(band.convert("RGBA")), 255)
        else:
            rgb[top : top + _BAND] = np.asarray(band.convert("RGB"))
    return rgb


def _rgb_of_16_bits(data: bytes) -> np.ndarray:
    """The pixels of a PNG or TIFF of 16 bits per channel that is known to be whole, uint8 [h, w, 3]."""
    pixels, _ = _decode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise Rejected("picture", "its colours of 16 bits cannot be decoded")
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for top in range(0, len(pixels), _BAND):
        band = pixels[top : top + _BAND, :, [2, 1, 0, 3][: pixels.shape[2]]]
        band = _over_white(band, 65535) if band.shape[2] == 4 else band
        rgb[top : top + _BAND] = (band.astype(np.uint32) + 128) // 257
    return rgb


def _over_white(rgba: np.ndarray, white: int) -> np.ndarray:
    """Lay [h, w, 4], values 0..white, over white: [h, w, 3]."""
    alpha = rgba[..., 3:].astype(np.uint32)  # white squared fits
    return (rgba[..., :3] * alpha + white * (white - alpha) + white // 2) // white


def _decode(data: bytes, flags: int) -> tuple[np.ndarray | None, str]:
    """Decode with OpenCV; also returns what the decoders below it wrote on standard error, which is all they tell.

    It is caught in memory: a full disk must not make a corrupt file look clean.
    """
    with _process_state, os.fdopen(os.memfd_create("stderr"), "w+b", buffering=0) as captured:
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
    with _opened(data, max_pixels, stage="labels") as image:
        turned = _orientation(image) if image.format == "TIFF" else 1
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


class _Jpeg(NamedTuple):
    """What the markers of a JPEG say."""

    sizes: list[tuple[int, int]]
    """Width and height of every frame up to the end of the image."""
    scans: int
    plain: bool


def _walk_jpeg(data: bytes) -> _Jpeg:
    """Go from marker to marker as the decoders do, up to the end of the first image."""
    position, sizes, scans, plain = 2, [], 0, True
    while True:
        match = _JPEG_MARKER.search(data, position)
        if match is None:
            return _Jpeg(sizes, scans, plain=False)
        plain = plain and (scans > 0 or match.start() == position)  # some readers want segment after segment
        marker, position = data[match.start() + 1], match.end()
        if marker == 0xD9:
            return _Jpeg(sizes, scans, plain and len(sizes) == 1 and position == len(data))
        if marker in _FRAME_MARKERS:
            precision, height, width, components = (
                int.from_bytes(data[position + i : position + j], "big") for i, j in ((2, 3), (3, 5), (5, 7), (7, 8))
            )
            plain = plain and marker in _HUFFMAN_8_BIT and precision == 8 and components in (1, 3)
            sizes.append((width, height))
        scans += marker == 0xDA
        position += int.from_bytes(data[position : position + 2], "big")


def _refuse_lying_jpeg(jpeg: _Jpeg, width: int, height: int) -> None:
    if jpeg.sizes != [(width, height)]:
        raise Rejected("picture", "its header and its pixels differ in size")
    if jpeg.scans > _MAX_JPEG_SCANS:
        raise Rejected("picture", f"a JPEG of {jpeg.scans} scans")


def is_plain_jpeg(data: bytes) -> bool:
    """Whether every reader decodes these bytes alike: an 8-bit Huffman JPEG of 1 or 3 components that ends properly.

    Ending properly: its end-of-image marker is also the end of the file.
    """
    return data[:2] == b"\xff\xd8" and _walk_jpeg(data).plain

"""Header facts of a picture before any decoding, and the one place where Pillow opens one.

Only the formats named here are opened: some of Pillow's others start programs.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

from PIL import (  # importing a plugin registers its format
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,  # noqa: F401
)

from vice.pipeline.prep.jpeg import refuse_lying_jpeg, walk_jpeg
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
_COMPRESSED = rb"\x1f\x8b|BZh[1-9]|\xfd7zXZ\0|\x28\xb5\x2f\xfd|PK\x03\x04|7z\xbc\xaf|Rar!\x1a"
"""How compressed archives begin: gzip, bzip2, xz, zstd, zip, 7z, RAR."""
_DECODED_KINDS = (
    rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|II\*\0|MM\0\*|BM|GIF8|....ftypavi[fs]|\xffO\xffQ|....jP  |P[1-6]\s"
)

_MAX_PNG_TEXT = 16_000_000
"""Bytes of a PNG's colour profile or text once inflated: a large one is no reason to refuse good pixels."""

_EXIF_ORIENTATION = 0x0112
_TIFF_SUBFILE, _TIFF_TILE, _TIFF_SAMPLE_FORMAT = 0x00FE, (0x0142, 0x0143), 0x0153

_COPY_OR_MASK = 0b101
"""Bits of a TIFF page's NewSubfileType: a smaller copy of another page, or its mask."""
_MAX_PAGES = 32
"""Pages that are looked at for one that is no copy."""

FLOAT_PIXELS = "float pixels are not supported: convert to 8 or 16 bits"

PROCESS_STATE = threading.RLock()
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
    several: bool
    """Whether the file holds more pages or frames, of which the first is taken."""


def read_header(data: bytes, max_pixels: int) -> Header:
    """Size and orientation of a picture, without decoding it.

    Raises:
        Rejected: no picture in a known format, larger than `max_pixels`, or its header contradicts itself.
    """
    with opened(data, max_pixels) as image:
        given = orientation_of(image)
        orientation = given if given in range(1, 9) else 1
        width, height = image.size
        if image.format == "TIFF" and image.tag_v2.get(_EXIF_ORIENTATION) in (5, 6, 7, 8):
            width, height = height, width  # Pillow tells the size after the turn, of TIFF alone
        plain = False
        if image.format in ("JPEG", "MPO"):
            jpeg = walk_jpeg(data)
            refuse_lying_jpeg(jpeg, width, height)
            plain = jpeg.plain and given in (None, 1)
        several = _has_more_pages(image) if image.format == "TIFF" else _is_animated(image)
    return Header(width, height, orientation, plain, several)


def _is_animated(image: Image.Image) -> bool:
    try:  # of MPO, what follows is a preview or the other eye's picture
        return image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception:  # a second frame that is corrupt is no reason to refuse the first
        return True


def _has_more_pages(tiff: Image.Image) -> bool:
    """Whether a TIFF has a page after the first that is neither a smaller copy nor a mask."""
    for page in range(1, _MAX_PAGES):
        try:
            tiff.seek(page)
        except EOFError:
            return False
        except Exception:  # a page that Pillow does not understand is one nevertheless
            return True
        if not _number(tiff.tag_v2.get(_TIFF_SUBFILE)) & _COPY_OR_MASK:
            return True
    return False


@contextmanager
def opened(data: bytes, max_pixels: int, *, stage: str = "picture") -> Iterator[Image.Image]:
    """Open with Pillow under the given limit; whatever is raised inside becomes a rejection."""
    with PROCESS_STATE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pillows_limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS = max_pixels / 2  # it raises at the double; also where a frame is larger than the screen
        PngImagePlugin.MAX_TEXT_CHUNK = _MAX_PNG_TEXT
        try:
            try:
                image = Image.open(BytesIO(data), formats=_FORMATS)
            except Image.DecompressionBombError:
                raise Rejected(stage, f"its header claims more than {max_pixels:,} pixels", "too-large") from None
            except Exception:  # a hostile header may make the parser raise anything
                raise Rejected(stage, _unknown(data, stage)) from None
            with image:
                if image.width * image.height > max_pixels:
                    size = f"{image.width} × {image.height}"
                    raise Rejected(stage, f"{size} is more than {max_pixels:,} pixels", "too-large")
                _refuse_lying_header(image, data, max_pixels, stage)
                yield image
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = pillows_limits


def _unknown(data: bytes, stage: str) -> str:
    """Why Pillow does not open a file."""
    if _begins(data, _COMPRESSED):
        reason = "compressed archive: decompress it first"
    elif _begins(data, rb"II\*\0|MM\0\*") and _has_float_pixels(data):
        reason = FLOAT_PIXELS
    else:
        known = (f"{name}: no decoder in this installation" for magic, name in _OTHER_KINDS if _begins(data, magic))
        undecided = "its header is corrupt" if _begins(data, _DECODED_KINDS) else "no picture in a known format"
        reason = next(known, undecided)
    return reason if stage == "picture" else f"label map cannot be decoded ({reason})"


def _has_float_pixels(tiff: bytes) -> bool:
    """Whether the first picture of a TIFF holds floating-point numbers (TIFF 6.0, section 19: SampleFormat 3)."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(tiff[:8])
        file = BytesIO(tiff)
        file.seek(directory.next)
        directory.load(file)
        formats = directory.get(_TIFF_SAMPLE_FORMAT, ())
        return 3 in (formats if isinstance(formats, tuple) else (formats,))
    except Exception:  # a hostile header may make the parser raise anything
        return False


def _begins(data: bytes, magic: bytes) -> bool:
    return re.match(magic, data[:1024], re.DOTALL) is not None


def _refuse_lying_header(image: Image.Image, data: bytes, max_pixels: int, stage: str) -> None:
    """Refuse what Pillow opens but would decode to something else or with far more memory than its size tells."""
    if image.format == "TIFF":
        if data[8:10] == b"CR" or _number(image.tag_v2.get(_TIFF_SUBFILE)) & 1:
            raise Rejected(stage, "its first picture is a thumbnail, as in cameras' raw files")
        tile_width, tile_height = (_number(image.tag_v2.get(tag)) for tag in _TIFF_TILE)
        if tile_width * tile_height > max_pixels:
            raise Rejected(stage, f"its header claims tiles of more than {max_pixels:,} pixels", "too-large")
    if image.format == "JPEG2000":
        at = data.find(b"\xff\x4f\xff\x51") + 8
        right, bottom, left, top = (int.from_bytes(data[at + i : at + i + 4], "big") for i in range(0, 16, 4))
        if at == 7 or (right - left, bottom - top) != image.size:
            raise Rejected(stage, "its header and its pixels differ in size")


def _number(value: object) -> int:
    """A TIFF tag's value as an integer, 0 where it is none."""
    return value if isinstance(value, int) else 0


def orientation_of(image: Image.Image) -> int | None:
    """The orientation as given, None where there is none, 0 where it cannot be read."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # bad metadata are no reason to refuse good pixels
        return 0

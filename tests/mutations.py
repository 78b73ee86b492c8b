"""Damaged picture files for tests: small whole ones of many kinds, and every way to spoil their bytes."""

import functools
import io
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Rng = np.random.Generator


def rng(seed: int) -> Rng:
    """The generator of one mutated file."""
    return np.random.Generator(np.random.Philox(key=seed))


def kinds(pixels: np.ndarray) -> dict[str, bytes]:
    """A picture, uint8 [h, w, 3] RGB, as a file of every kind."""
    turned = Image.Exif()
    turned[0x0112] = 6
    wide = np.ascontiguousarray(pixels[..., ::-1]).astype(np.uint16) * 257
    alpha = np.dstack([pixels, pixels[..., :1]])
    return {
        "baseline.jpg": _file(pixels, "JPEG", quality=90),
        "progressive.jpg": _file(pixels, "JPEG", progressive=True),
        "restart.jpg": _file(pixels, "JPEG", restart_marker_blocks=3, subsampling=0),
        "grey.jpg": _file(pixels, "JPEG", mode="L"),
        "cmyk.jpg": _file(pixels, "JPEG", mode="CMYK"),
        "turned.jpg": _file(pixels, "JPEG", exif=turned),
        "8.png": _file(pixels, "PNG"),
        "16.png": cv2.imencode(".png", wide)[1].tobytes(),
        "grey16.png": cv2.imencode(".png", wide[..., 0])[1].tobytes(),
        "palette.png": _file(pixels, "PNG", mode="P"),
        "alpha.png": _file(alpha, "PNG"),
        "lossy.webp": _file(pixels, "WEBP"),
        "alpha.webp": _file(alpha, "WEBP", lossless=True),
        "plain.tif": _file(pixels, "TIFF"),
        "deflate.tif": _file(pixels, "TIFF", compression="tiff_adobe_deflate", exif=turned),
        "jpeg.tif": _file(pixels, "TIFF", compression="jpeg"),
        "16.tif": cv2.imencode(".tif", wide)[1].tobytes(),
        "plain.bmp": _file(pixels, "BMP"),
        "palette.bmp": _file(pixels, "BMP", mode="P"),
        "plain.gif": _file(pixels, "GIF", mode="P"),
        "animated.gif": _file(pixels, "GIF", save_all=True, append_images=[Image.fromarray(pixels[::-1])]),
        "plain.avif": _file(pixels, "AVIF", speed=10),
        "plain.jp2": _file(pixels, "JPEG2000"),
    }


def _file(pixels: np.ndarray, form: str, mode: str | None = None, **options) -> bytes:
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


def truncate(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(1, len(data))]


def flip_bits(data: bytes, rng: Rng, within: int | None = None) -> bytes:
    spoilt = bytearray(data)
    for place in rng.integers(0, min(len(data), within or len(data)), 2 ** rng.integers(0, 7)):
        spoilt[place] ^= 1 << rng.integers(0, 8)
    return bytes(spoilt)


MAGIC = [
    b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\x40\x20\0\0WEBPVP8 ",
    b"\0\0\0\x1cftypavif", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"P6\n", b"8BPS", b"\0\0\0\x18ftypheic",
]  # fmt: skip


def wrong_magic(data: bytes, rng: Rng) -> bytes:
    magic = MAGIC[rng.integers(len(MAGIC))]
    return magic + data[len(magic) :]


def swap_halves(data: bytes, rng: Rng) -> bytes:
    middle = rng.integers(1, len(data))
    return data[middle:] + data[:middle]


def append_garbage(data: bytes, rng: Rng) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 5000)))


def zero_a_range(data: bytes, rng: Rng) -> bytes:
    start, length = rng.integers(len(data)), rng.integers(1, 2000)
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def repeat_a_chunk(data: bytes, rng: Rng) -> bytes:
    """A range is there twice: one between two markers of a JPEG, two chunks of a PNG, or anywhere."""
    places = _chunks(data) or sorted(rng.integers(0, len(data), 2).tolist())
    first = rng.integers(len(places))
    start, end = places[first], places[min(first + 1, len(places) - 1)]
    return data[:end] + data[start:end] + data[end:]


def _chunks(data: bytes) -> list[int]:
    if data.startswith(b"\xff\xd8"):
        return [at for at in range(2, len(data) - 1) if data[at] == 0xFF and data[at + 1] >= 0xC0][:40]
    places = []
    if data.startswith(b"\x89PNG"):
        at = 8
        while at < len(data):
            places.append(at)
            at += 12 + int.from_bytes(data[at : at + 4], "big")
    return places


def lie(data: bytes, rng: Rng) -> bytes:
    """A width or height in the header, or in one of the headers, says something else."""
    fields = _size_fields(data)
    if not fields:
        return flip_bits(data, rng, 64)
    place, length, order = fields[rng.integers(len(fields))]
    old = int.from_bytes(data[place : place + length], order)
    values = [0, 1, 33, old - 1, old + 1, 2 * old, 1000, 9000, 2 ** (8 * length - 1) - 1, 2 ** (8 * length) - 1]
    new = max(0, int(values[rng.integers(len(values))])) % 2 ** (8 * length)
    spoilt = bytearray(data)
    spoilt[place : place + length] = new.to_bytes(length, order)
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        spoilt[29:33] = zlib.crc32(spoilt[12:29]).to_bytes(4, "big")
    return bytes(spoilt)


def _size_fields(data: bytes) -> list[tuple[int, int, str]]:
    """Place, length and byte order of every width and height."""
    if data.startswith(b"\x89PNG"):
        return [(16, 4, "big"), (20, 4, "big")]
    if data.startswith(b"\xff\xd8"):
        frames = [at for marker in (b"\xff\xc0", b"\xff\xc2") if (at := data.find(marker)) > 0]
        return [(at + offset, 2, "big") for at in frames for offset in (5, 7)]
    if data.startswith(b"GIF"):
        frame = data.find(b"\x2c\0\0\0\0")
        return [(at, 2, "little") for at in (6, 8, frame + 1, frame + 5, frame + 7)]
    if data.startswith(b"BM"):
        return [(18, 4, "little"), (22, 4, "little")]
    if data[8:12] == b"WEBP":
        at = data.find(b"VP8X")
        return [(24, 3, "little"), (27, 3, "little")] if at == 12 else [(26, 2, "little"), (28, 2, "little")]
    if data[:4] == b"II*\0":
        return _tiff_fields(data)
    places = [
        (data.find(name) + skip, 4, "big") for name, skip in ((b"ispe", 8), (b"ihdr", 4), (b"\xff\x4f\xff\x51", 8))
    ]
    return [(place + more, 4, order) for place, _, order in places if place > 8 for more in (0, 4)]


def _tiff_fields(data: bytes) -> list[tuple[int, int, str]]:
    """Value fields of the tags that decide sizes: width, height, samples, strips, tiles, bits, compression."""
    start = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[start : start + 2], "little")
    entries = range(start + 2, min(start + 2 + 12 * count, len(data) - 12), 12)
    decisive = {256, 257, 258, 259, 277, 278, 322, 323, 273, 279}
    return [(at + 8, 4, "little") for at in entries if int.from_bytes(data[at : at + 2], "little") in decisive]


MUTATIONS: dict[str, Callable[[bytes, Rng], bytes]] = {
    "truncated": truncate,
    "bits": flip_bits,
    "head_bits": functools.partial(flip_bits, within=64),
    "wrong_magic": wrong_magic,
    "lie": lie,
    "swapped": swap_halves,
    "appended": append_garbage,
    "zeroed": zero_a_range,
    "repeated": repeat_a_chunk,
}

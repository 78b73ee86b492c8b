"""Every kind of picture file: its pixels against an independent decoder or a formula; lies and bombs are refused."""

import base64
import io
import os
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from dali_reader import decoded_by_dali
from PIL import Image, ImageOps
from sharding import blobs, jpeg, png

from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.decoding import decode_labels, decode_rgb
from vice.pipeline.prep.geometry import plan_geometry
from vice.pipeline.prep.picture import standardise
from vice.pipeline.prep.rejection import Rejected

JPEG = PrepSettings()
PNG = PrepSettings(picture="png")
PIXELS = blobs(83, 61, 0)
ARITHMETIC = base64.b85decode(
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00jdC1Ox*G1Ox;H1qB8N3<w7Y2L}%e3keJn4-yg)4-pX)791B76dDx~5f~vD8XX-UA0HDJ"
    "A|xUnBpe<e9{<|_LjeT^1qTKP4hRSi9uyH29v&VZ9v&VZ9v&VZ9v&VZ9v&VZ9v&VZ9v&VZ9v&VZ9v&VZ9v&VZ9v&VZ9v&VZ9v=V6"
    "01*fPA^<1@0U`hb5di}c0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zf#0Nk_M(%A5BwZA(M2ZwUVSVD}22G*IuVKEhB2hK$e(m)^d"
    "9g`a(!<rmYn4$?#0(3k5^<)JT^susi-f2X|@-NXLO;`p~aFH9g_AfUH4o0`Qs+^>N)GE7`>UP|zKj0)bwg86|tUw~M$0KAxi!}e)"
)
"""40 × 34 pixels in arithmetic coding, which no library here writes; the red channel is x + 2 y."""


PLAIN = jpeg(PIXELS)


def saved(pixels, form, mode=None, **options):
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


def by_pillow(data, mode="RGB"):
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def sampled(factor):
    parameters = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    return cv2.imencode(".jpg", PIXELS[..., ::-1], parameters)[1].tobytes()


def with_thumbnail(data):
    """A JFIF header with a thumbnail of 8 × 8 pixels in front."""
    end = 4 + int.from_bytes(data[4:6], "big")
    body = b"JFIF\0\1\1\0\0\1\0\1\x08\x08" + bytes(3 * 64)
    return data[:2] + b"\xff\xe0" + struct.pack(">H", len(body) + 2) + body + data[end:]


def patched(data, place, new):
    return data[:place] + new + data[place + len(new) :]


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


class TestKeptJpegs:
    KINDS = {
        "baseline": saved(PIXELS, "JPEG"),
        "progressive": saved(PIXELS, "JPEG", progressive=True),
        "restart markers": saved(PIXELS, "JPEG", restart_marker_blocks=2),
        "grey": saved(PIXELS, "JPEG", mode="L"),
        "RGB, not YCC": saved(PIXELS, "JPEG", keep_rgb=True),
        "thumbnail": with_thumbnail(jpeg(PIXELS)),
        "4:1:1": sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
        "4:2:0": sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
        "4:2:2": sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
        "4:4:0": sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
        "4:4:4": sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    }

    def test_dali_opencv_and_pillow_see_the_same_pixels_in_all_kinds(self):
        seen = decoded_by_dali(list(self.KINDS.values()))
        for (kind, data), dali in zip(self.KINDS.items(), seen, strict=True):
            picture = standardise(data, JPEG)
            assert picture.kept_original, kind
            assert np.array_equal(picture.pixels, dali) and np.array_equal(dali, by_pillow(data)), kind
            expected = PIXELS if kind != "grey" else by_pillow(saved(PIXELS, "PNG", mode="L"))
            assert np.abs(dali.astype(int) - expected).mean() < 12, kind


class TestOtherJpegs:
    @pytest.mark.parametrize("filler", [b"", b"\xff", b"\0\0\0\0"])
    def test_a_jpeg_is_not_kept_that_only_some_readers_forgive(self, filler):
        """libjpeg tells of the unknown JFIF revision and is then silent about the bytes between two segments."""
        data = patched(PLAIN, PLAIN.index(b"JFIF") + 5, b"\5").replace(b"\xff\xdb", filler + b"\xff\xdb", 1)
        picture = standardise(data, JPEG)
        assert not picture.kept_original
        assert np.array_equal(decoded_by_dali([picture.data])[0], picture.pixels)
        filled = PLAIN.replace(b"\xff\xdb", filler + b"\xff\xdb", 1)
        assert standardise(filled, JPEG).kept_original == (filler == b"")

    @pytest.mark.parametrize("transform", [b"\0", b"\2"])
    def test_cmyk_and_ycck_become_rgb(self, transform):
        data = saved(PIXELS, "JPEG", mode="CMYK", quality=95)
        data = patched(data, data.index(b"Adobe") + 11, transform)
        ink = by_pillow(data, "CMYK").astype(int)
        expected = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
        assert np.abs(standardise(data, PNG).pixels - expected).max() <= 1

    def test_arithmetic_coding_is_decoded_and_encoded_anew(self):
        picture = standardise(ARITHMETIC, JPEG)
        y, x = np.indices((34, 40))
        assert not picture.kept_original
        assert np.abs(picture.pixels[..., 0] - (x + 2.0 * y)).max() < 12

    def test_a_lossless_jpeg_is_exact(self):
        picture = standardise(lossless(GREY), PNG)
        assert not standardise(lossless(GREY), JPEG).kept_original
        assert np.array_equal(picture.pixels, np.dstack([GREY] * 3))

    def test_twelve_bits_are_rejected(self):
        data = saved(PIXELS, "JPEG", mode="L")
        at = data.index(b"\xff\xc0")
        with pytest.raises(Rejected):
            standardise(patched(patched(data, at + 1, b"\xc1"), at + 4, b"\x0c"), JPEG)


def lossless(grey):
    """Grey pixels as a lossless JPEG: the predictor is the left neighbour, categories 0..8 have codes of 4 bits."""
    values = grey.astype(int)
    predicted = np.roll(values, 1, axis=1)
    predicted[1:, 0], predicted[0, 0] = values[:-1, 0], 128
    bits = ""
    for difference in (values - predicted).ravel().tolist():
        size = abs(difference).bit_length()
        extra = difference if difference >= 0 else difference + (1 << size) - 1
        bits += f"{size:04b}" + (f"{extra:0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">HBHHBBBB", 11, 8, *grey.shape, 1, 1, 0x11, 0)
    table = struct.pack(">HB", 2 + 17 + 9, 0) + bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9))
    scan = struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8\xff\xc3" + frame + b"\xff\xc4" + table + b"\xff\xda" + scan + coded + b"\xff\xd9"


WIDE = np.ascontiguousarray(PIXELS.astype(np.uint16) * 257 + np.arange(83, dtype=np.uint16)[None, :, None] % 120)
ROUNDED = np.clip(np.round(WIDE / 257), 0, 255).astype(np.uint8)
GREY = PIXELS[..., 0]


def wide(suffix, pixels=WIDE):
    bgr = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return cv2.imencode(suffix, np.minimum(bgr, 65535))[1].tobytes()


EXACT = {
    "png": (saved(PIXELS, "PNG"), PIXELS),
    "png 16 bit": (wide(".png"), ROUNDED),
    "png 16 bit grey": (wide(".png", WIDE[..., 0]), ROUNDED[..., :1]),
    "png 16 bit alpha": (wide(".png", np.dstack([WIDE, np.full_like(GREY, 65535, np.uint16)])), ROUNDED),
    "webp lossless": (saved(PIXELS, "WEBP", lossless=True), PIXELS),
    "tiff": (saved(PIXELS, "TIFF"), PIXELS),
    "tiff lzw": (saved(PIXELS, "TIFF", compression="tiff_lzw"), PIXELS),
    "tiff deflate grey": (saved(GREY, "TIFF", compression="tiff_adobe_deflate"), GREY[..., None]),
    "tiff 16 bit": (wide(".tif"), ROUNDED),
    "tiff 16 bit grey": (wide(".tif", WIDE[..., 0]), ROUNDED[..., :1]),
    "bmp": (saved(PIXELS, "BMP"), PIXELS),
    "bmp grey": (saved(GREY, "BMP"), GREY[..., None]),
    "ppm": (saved(PIXELS, "PPM"), PIXELS),
    "pgm 16 bit": (wide(".pgm", WIDE[..., 0]), ROUNDED[..., :1]),
    "gif grey": (saved(GREY, "GIF"), GREY[..., None]),
    "jp2 lossless": (saved(PIXELS, "JPEG2000"), PIXELS),
    "jp2 grey": (saved(GREY, "JPEG2000"), GREY[..., None]),
}


@pytest.mark.parametrize("kind", EXACT)
def test_lossless_kinds_are_exact(kind):
    data, expected = EXACT[kind]
    assert np.array_equal(standardise(data, PNG).pixels, np.broadcast_to(expected, PIXELS.shape))


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "BMP"])
def test_palettes_become_their_colours(form):
    data = saved(PIXELS, form, mode="P")
    assert np.array_equal(
        standardise(data, PNG).pixels, np.asarray(Image.fromarray(PIXELS).convert("P").convert("RGB"))
    )


@pytest.mark.parametrize(("form", "options"), [("AVIF", {"quality": 95}), ("WEBP", {"quality": 95})])
def test_lossy_kinds_are_close(form, options):
    data = saved(PIXELS, form, **options)
    stored = standardise(data, PNG).pixels
    assert np.array_equal(stored, by_pillow(data)) and np.abs(stored.astype(int) - PIXELS).mean() < 5


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_over_white(form, mode):
    colours = PIXELS if mode == "RGBA" else np.dstack([GREY] * 3)
    alpha = np.tile(np.arange(83, dtype=np.uint8) * 3, (61, 1))
    image = Image.fromarray(np.dstack([colours if mode == "RGBA" else GREY, alpha]), mode)
    buffer = io.BytesIO()
    image.save(buffer, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    expected = colours * (alpha / 255)[..., None] + 255 * (1 - alpha / 255)[..., None]
    assert np.abs(standardise(buffer.getvalue(), PNG).pixels - expected).max() <= 0.51


def test_a_transparent_grey_of_16_bits_becomes_white():
    values = np.tile(np.arange(83, dtype=np.uint16) * 700, (61, 1))
    data = png(values)
    data = data[:33] + chunk(b"tRNS", struct.pack(">H", 1400)) + data[33:]
    stored = standardise(data, PNG).pixels
    assert (stored[:, 2] == 255).all() and stored[0, 1, 0] == round(700 / 257)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_is_taken(form):
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(form, {})
    alone = saved(GREY, form, mode="L" if form != "WEBP" else "RGB", **options)
    more = [Image.fromarray(GREY[::-1])] * 40
    data = saved(GREY, form, mode="L" if form != "WEBP" else "RGB", save_all=True, append_images=more, **options)
    assert np.abs(standardise(data, PNG).pixels.astype(int) - standardise(alone, PNG).pixels).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF deflate", "TIFF 16", "AVIF"])
def test_every_format_is_turned_once_and_labels_alike(form, orientation):
    """Against Pillow's own turn of the pixels as they stand in the file."""
    options = {"exif": exif(orientation)} | ({"lossless": True} if form == "WEBP" else {})
    options |= {"compression": "tiff_adobe_deflate"} if form == "TIFF deflate" else {}
    if form == "TIFF 16":
        data = cv2.imencode(".tif", WIDE[..., ::-1])[1].tobytes()
        data, plain = with_tiff_orientation(data, orientation), ROUNDED
    else:
        data, plain = saved(PIXELS, form.split()[0], **options), PIXELS
    picture = standardise(data, PNG)
    image = Image.fromarray(plain)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert picture.source_size == (83, 61) and picture.pixels.shape == expected.shape
    error = np.abs(picture.pixels.astype(int) - expected).mean()
    assert error == 0 if form not in ("JPEG", "AVIF") else error < 12
    assert np.array_equal(picture.geometry.labels(plain[..., 0].copy()), expected[..., 0])


def with_tiff_orientation(data, orientation):
    """Write the tag's list of a TIFF anew, at its end, with an orientation."""
    start = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[start : start + 2])[0]
    tags = [data[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    tags = [tag for tag in tags if tag[:2] != struct.pack("<H", 274)]
    tags = sorted(
        [*tags, struct.pack("<HHIHH", 274, 3, 1, orientation, 0)], key=lambda tag: struct.unpack("<H", tag[:2])
    )
    data += b"\0" * (len(data) % 2)
    return patched(data, 4, struct.pack("<I", len(data))) + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("size", [(83, 61), (61, 83), (127, 64)])
@pytest.mark.parametrize("options", [{"short_side": 37}, {"max_side": 50}, {"short_side": 41, "center_crop": True}])
def test_a_label_is_that_of_the_pixel_whose_centre_maps_there(orientation, size, options):
    width, height = size
    ids = np.arange(width * height, dtype=np.uint16).reshape(height, width)
    geometry = plan_geometry(width, height, orientation, PrepSettings(**options))
    image = Image.fromarray(ids.astype(np.int32))
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    left, top, kept_width, kept_height = geometry.crop
    y, x = np.arange(kept_height) + top, np.arange(kept_width) + left
    rows = np.floor((y + 0.5) * upright.shape[0] / geometry.resized[1]).astype(int)
    columns = np.floor((x + 0.5) * upright.shape[1] / geometry.resized[0]).astype(int)
    assert np.array_equal(geometry.labels(ids), upright[rows[:, None], columns])


class TestLimit:
    SMALL = PrepSettings(max_pixels=5000)

    def test_it_decides_for_pictures_and_labels_whatever_pillows_own_limit_is(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        assert standardise(png(PIXELS), PrepSettings(max_pixels=83 * 61)).pixels.shape == PIXELS.shape
        assert decode_labels(png(GREY), 83 * 61).shape == GREY.shape
        assert Image.MAX_IMAGE_PIXELS == 10
        for data in (png(PIXELS), jpeg(PIXELS), saved(PIXELS, "TIFF"), saved(PIXELS, "GIF", mode="P")):
            with pytest.raises(Rejected, match="more than 5,000 pixels"):
                standardise(data, self.SMALL)
        with pytest.raises(Rejected, match="more than 5,000 pixels") as caught:
            decode_labels(png(GREY), 5000)
        assert caught.value.stage == "labels"

    LIES = {
        "gif frame beyond its screen": patched(
            gif := saved(PIXELS, "GIF", mode="P"), gif.index(b"\x2c\0\0\0\0") + 5, struct.pack("<HH", 60000, 60000)
        ),
        "png with a second header": (small := png(PIXELS))[:33]
        + chunk(b"IHDR", struct.pack(">II", 60000, 60000) + small[24:29])
        + small[33:],
        "jp2 box and codestream": patched(
            jp2 := saved(PIXELS, "JPEG2000"), jp2.index(b"\xff\x4f\xff\x51") + 8, struct.pack(">II", 60000, 60000)
        ),
        "jpeg with two frames": (plain := jpeg(PIXELS))[: (at := plain.index(b"\xff\xc0"))] + plain[at : at + 19] * 2
        + plain[at + 19 :],
        "jpeg of many scans": (many := saved(PIXELS, "JPEG", progressive=True))[:-2]
        + many[many.rindex(b"\xff\xda") : -2] * 5000
        + b"\xff\xd9",
    }  # fmt: skip

    @pytest.mark.parametrize("lie", LIES)
    def test_headers_that_lie_are_refused(self, lie):
        with pytest.raises(Rejected, match=r"pixels|scans"):
            standardise(self.LIES[lie], JPEG)

    def test_a_tiff_of_huge_tiles_is_refused(self):
        tags = [(256, 96), (257, 72), (258, 8), (259, 8), (262, 1), (277, 1), (322, 60000), (323, 60000)]
        tags += [(324, 200), (325, 40)]
        data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
        data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(200)
        with pytest.raises(Rejected, match="tiles of more than"):
            standardise(data, JPEG)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF: no decoder in this installation"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video: no decoder"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', "SVG: no decoder"),
        (b"8BPS\0\1", "Photoshop: no decoder"),
        (b"FUJIFILMCCD-RAW ", "a camera's raw file: no decoder"),
        (b"\x89PNG\r\n\x1a\n?", "its header is corrupt"),
        (b"words", "no picture in a known format"),
        (patched(saved(PIXELS, "TIFF"), 8, b"CR"), "no decoder|corrupt|thumbnail"),
        (saved(PIXELS, "TIFF", tiffinfo={254: 1}), "its first picture is a thumbnail, as in cameras' raw files"),
    ],
)
def test_what_cannot_be_decoded_is_named(data, reason):
    with pytest.raises(Rejected, match=reason):
        standardise(data, JPEG)


def test_a_large_colour_profile_is_no_reason_to_refuse():
    data = png(PIXELS)
    data = data[:33] + chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(4_000_000))) + data[33:]
    assert np.array_equal(standardise(data, PNG).pixels, PIXELS)


def test_threads_get_standard_error_back_as_it_was():
    before = os.fstat(2)
    data = jpeg(PIXELS).replace(b"\xff\xdb", b"\0\0\0\0\xff\xdb", 1)
    clean = []
    threads = [threading.Thread(target=lambda: clean.extend(decode_rgb(data)[1] for _ in range(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clean) == 200 and not any(clean)
    assert os.path.samestat(before, os.fstat(2))

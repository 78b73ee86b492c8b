"""From a file's bytes to the stored picture: which bytes are kept, what is refused, and where every pixel goes."""

import gzip
import io
import zlib

import cv2
import numpy as np
import pytest
from photographs import photographs
from PIL import Image, ImageOps
from sharding import blobs, jpeg, png

from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.decoding import decode_labels
from vice.pipeline.prep.geometry import plan_geometry
from vice.pipeline.prep.jpeg import is_plain_jpeg
from vice.pipeline.prep.picture import picture_version, standardise
from vice.pipeline.prep.rejection import Rejected

JPEG = PrepSettings()
PNG = PrepSettings(picture="png")


def encoded(pixels, form="PNG", mode=None, **options):
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


def turned(pixels, orientation, form="PNG"):
    return encoded(pixels, form, exif=exif_of(orientation))


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def seen_by_readers(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


class TestOriginalBytes:
    @pytest.mark.parametrize(
        "options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}, {"restart_marker_blocks": 2}]
    )
    def test_a_plain_jpeg_is_kept(self, options):
        data = encoded(blobs(80, 60, 0), "JPEG", **options)
        picture = standardise(data, JPEG)
        assert picture.kept_original and picture.data == data
        assert np.array_equal(picture.pixels, seen_by_readers(data))

    def test_a_grey_jpeg_is_kept_and_read_as_rgb(self):
        picture = standardise(encoded(blobs(80, 60, 0), "JPEG", mode="L"), JPEG)
        assert picture.kept_original and picture.pixels.shape == (60, 80, 3)

    def test_an_upright_exif_is_kept(self):
        assert standardise(turned(blobs(80, 60, 0), 1, "JPEG"), JPEG).kept_original

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(turned(blobs(80, 60, 0), 3, "JPEG"), id="turned"),
            pytest.param(encoded(blobs(80, 60, 0), "JPEG", mode="CMYK"), id="cmyk"),
            pytest.param(encoded(blobs(80, 60, 0), "JPEG") + b"more", id="bytes after its end"),
            pytest.param(jpeg(blobs(80, 60, 0)).replace(b"\xff\xdb", b"\0\0\0\0\xff\xdb", 1), id="decoder warns"),
            pytest.param(png(blobs(80, 60, 0)), id="png"),
            pytest.param(encoded(blobs(80, 60, 0), "WEBP"), id="webp"),
        ],
    )
    def test_other_files_are_encoded_anew(self, data):
        picture = standardise(data, JPEG)
        assert not picture.kept_original
        assert is_plain_jpeg(picture.data) and np.array_equal(picture.pixels, seen_by_readers(picture.data))

    @pytest.mark.parametrize(
        "settings", [PrepSettings(max_side=64), PrepSettings(short_side=48), PrepSettings(center_crop=True), PNG]
    )
    def test_nothing_is_kept_that_is_changed(self, settings):
        assert not standardise(jpeg(blobs(80, 60, 0)), settings).kept_original

    def test_settings_that_change_nothing_keep_it(self):
        settings = PrepSettings(max_side=80, short_side=60)
        assert standardise(jpeg(blobs(80, 60, 0)), settings).kept_original

    @pytest.mark.parametrize("frame", [b"\xff\xc3", b"\xff\xc9"])
    def test_lossless_and_arithmetic_frames_are_not_plain(self, frame):
        data = jpeg(blobs(80, 60, 0))
        assert is_plain_jpeg(data)
        assert not is_plain_jpeg(data.replace(b"\xff\xc0", frame, 1))
        assert not is_plain_jpeg(data[:-2])


class TestPixels:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_pictures_are_turned_upright_and_labels_with_them(self, orientation):
        pixels = blobs(80, 60, 0)
        data = turned(pixels, orientation)
        picture = standardise(data, PNG)
        assert np.array_equal(picture.pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
        assert np.array_equal(picture.geometry.labels(pixels[..., 0].copy()), picture.pixels[..., 0])

    @pytest.mark.parametrize("orientation", [1, 6, 7])
    @pytest.mark.parametrize("options", [{"max_side": 50}, {"short_side": 40}, {"short_side": 44, "center_crop": True}])
    def test_labels_follow_through_resize_and_crop(self, orientation, options):
        """A picture of four flat quarters stays equal to its label map, away from the quarters' borders."""
        quarters = np.zeros((60, 80), np.uint8)
        quarters[30:] += 80
        quarters[:, 40:] += 120
        picture = standardise(turned(np.dstack([quarters] * 3), orientation), PrepSettings(picture="png", **options))
        labels = picture.geometry.labels(quarters)
        assert labels.shape == picture.pixels.shape[:2]
        differ = labels != picture.pixels[..., 0]
        flat = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) == 0
        assert not differ[flat].any() and set(np.unique(labels)) == {0, 80, 120, 200}

    @pytest.mark.parametrize(
        ("size", "options", "stored"),
        [
            ((80, 60), {}, (80, 60)),
            ((80, 60), {"short_side": 45}, (60, 45)),
            ((80, 60), {"short_side": 90}, (80, 60)),
            ((80, 60), {"max_side": 50}, (50, 38)),
            ((80, 60), {"short_side": 45, "max_side": 50}, (50, 38)),
            ((81, 60), {"center_crop": True}, (60, 60)),
            ((60, 80), {"short_side": 45, "center_crop": True}, (45, 45)),
        ],
    )
    def test_sizes(self, size, options, stored):
        picture = standardise(png(blobs(*size, 0)), PrepSettings(**options))
        assert picture.pixels.shape[1::-1] == stored
        assert picture.geometry.upright == picture.source_size == size

    def test_a_centred_crop_is_centred(self):
        pixels = blobs(91, 60, 0)
        picture = standardise(png(pixels), PrepSettings(picture="png", center_crop=True))
        assert np.array_equal(picture.pixels, pixels[:, 15:75])

    def test_what_is_transparent_lies_over_white(self):
        pixels = np.dstack([blobs(80, 60, 0), np.full((60, 80), 255, np.uint8)])
        pixels[:30, :, 3], pixels[30:40, :, 3] = 0, 51
        stored = standardise(encoded(pixels), PNG).pixels
        assert (stored[:30] == 255).all()
        assert np.abs(stored[30:40] - (204 + 0.2 * pixels[30:40, :, :3])).max() <= 0.5
        assert np.array_equal(stored[40:], pixels[40:, :, :3])

    def test_sixteen_bits_are_scaled_to_eight(self):
        values = np.tile(np.arange(60, dtype=np.uint16)[:, None] * 1110, (1, 80))
        stored = standardise(png(values), PNG).pixels
        assert np.array_equal(stored, np.dstack([np.round(values / 257).astype(np.uint8)] * 3))

    @pytest.mark.parametrize("mode", ["P", "L", "LA", "1"])
    def test_palette_and_grey_become_rgb(self, mode):
        data = encoded(blobs(80, 60, 0), mode=mode)
        assert np.array_equal(standardise(data, PNG).pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


class TestReducedJpegs:
    """A JPEG of four times the size is decoded at half of it, and so on, where --short-side makes it small anyway."""

    @pytest.mark.parametrize(
        ("size", "short_side", "reduction"),
        [
            ((384, 256), 32, 4),
            ((640, 512), 32, 8),
            ((640, 512), 33, 4),
            ((384, 256), 64, 2),
            ((384, 256), 65, 1),
            ((386, 256), 32, 2),
            ((387, 256), 32, 1),
        ],
    )
    def test_it_keeps_twice_the_size_and_whole_pixels(self, size, short_side, reduction):
        assert plan_geometry(*size, 6, PrepSettings(short_side=short_side)).reduction == reduction

    @pytest.mark.parametrize("options", [{}, {"mode": "CMYK"}, {"mode": "L"}, {"progressive": True}])
    @pytest.mark.parametrize("orientation", [1, 6, 7])
    def test_it_looks_as_from_the_whole_picture(self, orientation, options):
        pixels = cv2.resize(blobs(64, 40, 0), (512, 320), interpolation=cv2.INTER_CUBIC)
        data = encoded(pixels, "JPEG", quality=95, exif=exif_of(orientation), **options)
        settings = PrepSettings(short_side=40, picture="png")
        picture = standardise(data, settings)
        whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        expected = picture.geometry.picture(whole)
        error = np.abs(picture.pixels.astype(int) - expected)
        assert picture.geometry.reduction == 4 and 0 < error.mean() < 0.5 and error.max() <= 4
        smaller_by_max_side = standardise(data, PrepSettings(max_side=64, picture="png")).pixels
        assert np.array_equal(smaller_by_max_side, expected)

    def test_it_must_be_whole(self):
        data = encoded(blobs(512, 320, 0), "JPEG")
        with pytest.raises(Rejected, match="cannot be decoded whole"):
            standardise(data[:-900], PrepSettings(short_side=40))

    def test_only_shards_with_short_side_have_another_version(self):
        assert picture_version(PrepSettings()) == "3" != picture_version(PrepSettings(short_side=40))


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"no picture", "no picture in a known format"),
            (png(blobs(80, 60, 0))[:-4000], "cannot be decoded whole"),
            (jpeg(blobs(80, 60, 0))[:-900], "cannot be decoded whole"),
            (encoded(blobs(80, 60, 0), "BMP")[:-100], "cannot be decoded whole"),
            (png(blobs(80, 31, 0)), "80 × 31 is smaller than 32 pixels"),
            (
                encoded(np.zeros((60, 80), np.float32), "TIFF"),
                "float pixels are not supported: convert to 8 or 16 bits",
            ),
            (encoded(np.zeros((60, 80), np.int32), "TIFF"), "pixels of 32 bits are not supported"),
            (cv2.imencode(".tif", np.zeros((60, 80, 3), np.float32))[1].tobytes(), "float pixels are not supported"),
            (gzip.compress(jpeg(blobs(80, 60, 0))), "compressed archive: decompress it first"),
        ],
    )
    def test_unreadable_pictures_are_rejected(self, data, reason):
        with pytest.raises(Rejected) as caught:
            standardise(data, JPEG)
        assert caught.value.stage == "picture" and reason in caught.value.reason

    def test_a_bomb_is_refused_by_its_header(self):
        bomb = bytearray(png(np.zeros((60, 80), np.uint8)))
        bomb[16:24] = (20_000).to_bytes(4, "big") * 2
        bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
        with pytest.raises(Rejected, match="more than 100,000,000 pixels"):
            standardise(bytes(bomb), JPEG)

    def test_a_picture_that_becomes_too_small_is_refused(self):
        with pytest.raises(Rejected, match="160 × 60 becomes 64 × 24, smaller than 32 pixels: --max-side 86 keeps it"):
            standardise(png(blobs(160, 60, 0)), PrepSettings(max_side=64))
        assert min(standardise(png(blobs(160, 60, 0)), PrepSettings(max_side=86)).pixels.shape[:2]) == 32


class TestLabels:
    def test_values_are_read_as_in_the_file(self):
        values = np.arange(12, dtype=np.uint8).reshape(3, 4)
        palette = Image.fromarray(values, "P")
        palette.putpalette(list(range(255, -1, -1)) * 3)
        buffer = io.BytesIO()
        palette.save(buffer, "PNG")
        assert np.array_equal(decode_labels(buffer.getvalue(), 10**6), values)
        assert np.array_equal(decode_labels(png(values), 10**6), values)
        wide = values.astype(np.uint16) * 5000
        assert np.array_equal(decode_labels(png(wide), 10**6), wide)

    def test_colours_and_garbage_are_rejected(self):
        with pytest.raises(Rejected, match="label map is RGB"):
            decode_labels(png(blobs(40, 40, 0)), 10**6)
        with pytest.raises(Rejected, match="cannot be decoded"):
            decode_labels(b"no picture", 10**6)


@pytest.mark.photographs
def test_camvid_is_kept_byte_for_byte():
    for path in sorted(photographs("camvid", "train", "images").iterdir())[:10]:
        assert standardise(path.read_bytes(), JPEG).kept_original

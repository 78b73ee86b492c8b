"""Files of 16 bits that use fewer, and of several pages: which value is white, and what is said of them."""

import io
import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from sharding import blobs, jpeg, png, shard_serially

from vice.data_specs.dataset import load_dataset
from vice.data_specs.errors import InputError
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import DATASET_FILE, DatasetRecord, PrepSettings
from vice.evaluate.embedding.pictures import open_pictures
from vice.pipeline.prep.append import append
from vice.pipeline.prep.cli import _white_level
from vice.pipeline.prep.info import summary
from vice.pipeline.prep.picture import standardise
from vice.pipeline.prep.plan import settings_fingerprint
from vice.pipeline.prep.rejection import Rejected
from vice.pipeline.prep.verify import verify_shards
from vice.pipeline.shards import Shards

COLOURS = blobs(80, 60, 0).astype(np.uint16)
SEVERAL = "several pages or frames, of which only the first is stored"


def of_bits(bits):
    """Colours from 0 to exactly 2^bits - 1."""
    values = COLOURS.astype(np.uint32) * ((1 << bits) - 1) // COLOURS.max()
    return values.astype(np.uint16)


def opencv(suffix, values):
    return cv2.imencode(suffix, values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]])[
        1
    ].tobytes()


def pillow(form, values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return buffer.getvalue()


def netpbm(values, largest=65535):
    kind = b"P5" if values.ndim == 2 else b"P6"
    return kind + b" %d %d %d\n" % (*values.shape[1::-1], largest) + values.astype(">u2").tobytes()


def tiff(values, *, tags=(), bits=16, sample_format=1, body=None):
    """A grey TIFF, uint16 or int16 [h, w], with more tags: number to SHORT."""
    height, width = values.shape
    body = body or values.tobytes()
    fields = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 339: sample_format}
    fields = sorted((fields | dict(tags)).items())
    directory = struct.pack("<H", len(fields) + 1)
    entries = [(number, struct.pack("<HHIHH", number, 3, 1, value, 0)) for number, value in fields]
    entries.append((279, struct.pack("<HHII", 279, 4, 1, len(body))))
    directory += b"".join(entry for _, entry in sorted(entries))
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + bytes(4)


def with_significant_bits(data, *bits):
    chunk = b"sBIT" + bytes(bits)
    return data[:33] + struct.pack(">I", len(bits)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def pages(*kinds):
    """A TIFF of pages of these NewSubfileTypes."""
    images = [Image.fromarray(COLOURS.astype(np.uint8)) for _ in kinds]
    for image, kind in zip(images, kinds, strict=True):
        image.encoderinfo = {"tiffinfo": {254: kind}}
    buffer = io.BytesIO()
    images[0].save(buffer, "TIFF", save_all=True, append_images=images[1:], tiffinfo={254: kinds[0]})
    return buffer.getvalue()


def stored(data, white_level=None):
    return standardise(data, PrepSettings(picture="png", white_level=white_level))


def scaled(values, white):
    grey = np.round(np.minimum(values, white) * (255 / white))
    return (grey if values.ndim == 3 else np.dstack([grey] * 3)).astype(np.uint8)


KINDS = {
    "png": lambda values: opencv(".png", values),
    "png, grey": lambda values: opencv(".png", values[..., 0]),
    "tiff": lambda values: opencv(".tif", values),
    "tiff, grey": lambda values: opencv(".tif", values[..., 0]),
    "ppm": netpbm,
    "pgm": lambda values: netpbm(values[..., 0]),
    "jp2, grey": lambda values: pillow("JPEG2000", values[..., 0]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_than_16_are_never_dark_in_silence(kind, bits):
    values, white = of_bits(bits), (1 << bits) - 1
    data = KINDS[kind](values)
    values = values[..., 0] if "grey" in kind or kind == "pgm" else values
    dark, by_value, by_itself = (stored(data, level) for level in (None, white, "auto"))
    assert dark.notes == (f"16 bits, but no value above {white}: stored dark (shard again with --white-level {white})",)
    assert np.abs(dark.pixels.astype(int) - scaled(values, 65535)).max() <= (kind == "ppm")  # 1 by Pillow's rounding
    for picture in (by_value, by_itself):
        assert picture.notes == (f"16 bits, white level {white}",)
        assert picture.depth == (values.max(), white)
        assert np.array_equal(picture.pixels, scaled(values, white))


def test_colours_of_a_lossy_jpeg_2000_are_treated_alike():
    values = of_bits(12) // 16 * 15  # room for what compression adds
    data = opencv(".jp2", values)
    dark, by_itself = stored(data), stored(data, "auto")
    assert "no value above 4095" in dark.notes[0] and by_itself.depth.white == 4095
    assert np.abs(by_itself.pixels.astype(int) - scaled(values, 4095)).max() <= 2


def test_sixteen_bits_that_are_used_need_no_note():
    data = opencv(".png", of_bits(16))
    assert stored(data).notes == stored(data, "auto").notes == ()
    assert np.array_equal(stored(data).pixels, stored(data, "auto").pixels)
    for eight_bits in (png(blobs(80, 60, 0)), jpeg(blobs(80, 60, 0))):
        assert stored(eight_bits, "auto").notes == () and stored(eight_bits, "auto").depth is None


def test_values_above_the_white_level_are_white_and_noted():
    values = of_bits(12)
    picture = stored(opencv(".png", values), 1023)
    assert picture.notes == ("16 bits with values above the white level 1023, which are stored as white",)
    assert np.array_equal(picture.pixels, scaled(values, 1023))


@pytest.mark.parametrize(
    ("data", "white"),
    [
        pytest.param(tiff(of_bits(9)[..., 0], tags={281: 4095}), 4095, id="MaxSampleValue"),
        pytest.param(tiff(of_bits(9)[..., 0], tags={341: 4000}), 4095, id="SMaxSampleValue"),
        pytest.param(tiff(of_bits(13)[..., 0], tags={281: 4095}), 8191, id="smaller than its values"),
        pytest.param(tiff(of_bits(5)[..., 0]), 255, id="very dark"),
        pytest.param(with_significant_bits(opencv(".png", of_bits(9)[..., 0]), 12), 4095, id="sBIT"),
        pytest.param(with_significant_bits(opencv(".png", of_bits(9)), 12, 10, 11), 4095, id="sBIT of colours"),
        pytest.param(with_significant_bits(opencv(".png", of_bits(12) * 16), 12, 12, 12), 65535, id="shifted"),
    ],
)
def test_auto_takes_what_holds_values_and_metadata(data, white):
    assert stored(data, "auto").depth.white == white


def test_a_file_that_names_its_range_is_not_scaled_again():
    grey = of_bits(12)[..., 0]
    packed = int("".join(f"{value:012b}" for value in grey.ravel().tolist()), 2).to_bytes(grey.size * 3 // 2, "big")
    for data in (netpbm(grey, 4095), tiff(grey, bits=12, body=packed)):
        for level in (None, 1023, "auto"):
            assert np.array_equal(stored(data, level).pixels, scaled(grey, 4095)) and stored(data, level).notes == ()


@pytest.mark.parametrize("opaque", [4095, 65535])
def test_alpha_has_the_scale_of_the_colours_or_its_own(opaque):
    values = of_bits(12)
    alpha = np.full((60, 80), opaque, np.uint16)
    alpha[:30] = 0
    pixels = stored(opencv(".png", np.dstack([values, alpha])), "auto").pixels
    assert (pixels[:30] == 255).all() and np.array_equal(pixels[30:], scaled(values, 4095)[30:])


def test_signed_pixels_are_rejected():
    for bits, kind in ((8, np.int8), (16, np.int16)):
        with pytest.raises(Rejected, match="signed pixels are not supported"):
            stored(tiff(COLOURS[..., 0].astype(kind), bits=bits, sample_format=2))


@pytest.mark.parametrize(
    ("kinds", "several"), [((0,), False), ((0, 0), True), ((0, 1, 4, 5), False), ((0, 1, 2), True), ((2, 2), True)]
)
def test_pages_are_noted_unless_they_are_smaller_copies_or_masks(kinds, several):
    assert stored(pages(*kinds)).notes == ((SEVERAL,) if several else ())


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
def test_animations_are_noted(form):
    frames = [Image.fromarray(blobs(80, 60, seed)) for seed in range(3)]
    for more in ([], frames[1:]):
        buffer = io.BytesIO()
        frames[0].save(buffer, form, **({"save_all": True, "append_images": more} if more else {}))
        assert stored(buffer.getvalue()).notes == ((SEVERAL,) if more else ())


@pytest.fixture
def deep(tmp_path):
    """A folder with a plain JPEG, a picture of 12 bits and a file of pages."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "plain.jpg").write_bytes(jpeg(blobs(80, 60, 1)))
    (source / "twelve.png").write_bytes(opencv(".png", of_bits(12)))
    (source / "pages.tif").write_bytes(pages(0, 0))
    return source


SETTINGS = PrepSettings(regions=[RegionLayer.from_text("slic:20")])
DARK = "16 bits, but no value above 4095: stored dark (shard again with --white-level 4095)"


def test_the_summary_counts_and_names_such_files(deep, tmp_path):
    out = tmp_path / "out"
    record = shard_serially(deep, out, SETTINGS)
    assert record.version == 3 and {text: note.sources for text, note in record.notes.items()} == {
        DARK: ["twelve.png"],
        SEVERAL: ["pages.tif"],
    }
    assert f"noted      1  × {DARK}: twelve.png\n" in summary(out) and f"1  × {SEVERAL}: pages.tif\n" in summary(out)
    assert verify_shards(out, deep=True).startswith("good")
    assert all("white_level" not in sample.meta for sample in Shards(out))

    for number in range(6):
        (deep / f"more{number}.tif").write_bytes(pages(0, 0))
    append(deep, out, workers=0)
    notes = Shards(out).record.notes
    assert notes[DARK].num_inputs == 1 and notes[SEVERAL].num_inputs == 7 and len(notes[SEVERAL].sources) == 5
    assert summary(out).count(", …") == 1


def test_the_white_level_is_in_the_samples_json(deep, tmp_path):
    shard_serially(deep, tmp_path / "out", SETTINGS.model_copy(update={"white_level": "auto"}))
    metas = {sample.meta["source"]: sample.meta for sample in Shards(tmp_path / "out")}
    assert (metas["twelve.png"]["white_level"], metas["twelve.png"]["largest_value"]) == (4095, 4095)
    assert "white_level" not in metas["plain.jpg"]
    told = json.loads((tmp_path / "out" / DATASET_FILE).read_text())
    assert told["settings"]["white_level"] == "auto" and told["version"] == 3
    assert list(told["notes"]) == ["16 bits, white level 4095", SEVERAL]


def test_shards_of_8_bits_are_recorded_as_before(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/plain.jpg").write_bytes(jpeg(blobs(80, 60, 1)))
    shard_serially(tmp_path / "source", tmp_path / "out", SETTINGS)
    told = json.loads((tmp_path / "out" / DATASET_FILE).read_text())
    assert told["version"] == 1 and not {"notes", "data_version"} & told.keys()
    assert "white_level" not in told["settings"]
    assert DatasetRecord.model_validate(told).settings.white_level is None
    before = "41c676e038d60eb6971243cd09bcd9f56031cbb3af34230259150ec79d145349"
    assert settings_fingerprint(PrepSettings(), load_dataset("image_folder"), {"picture": "3"}) == before


def test_the_option_takes_a_value_or_auto():
    assert [_white_level(text) for text in (None, "auto", "4095")] == [None, "auto", 4095]
    for text in ("0", "65536", "white", "-1", "4095.0"):
        with pytest.raises(InputError, match="not a white level"):
            _white_level(text)


def test_embedded_pictures_are_never_dark(deep):
    pictures = open_pictures(str(deep))
    by_key = {pictures.key(number): pictures.read(number).pixels for number in range(len(pictures))}
    assert np.array_equal(by_key["twelve.png"], scaled(of_bits(12), 4095))

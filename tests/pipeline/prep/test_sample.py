"""One input becomes one sample, or a rejection that says at which stage and why."""

import errno
import hashlib
import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image
from sharding import blobs, jpeg, png

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.regions import IGNORE, RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import PreparedSample, Recipe, make_sample
from vice.pipeline.prep.tars import Input
from vice.pipeline.storage.local import LocalStorage
from vice.pipeline.storage.retries import Retries

SPEC = DatasetSpec(
    name="drives",
    title="x",
    pictures=r"^(?P<id>(?P<group>\w+)/\w+)\.(jpg|png)$",
    labels="{id}_labels.png",
    classes=["road", "sky"],
    label_map={7: 1},
    ignore=[255],
)
SETTINGS = PrepSettings(regions=[RegionLayer.from_text("slic:16"), RegionLayer.from_text("slic:8,ruler=5")])


def put(folder, **files):
    (folder / "one").mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / "one" / name.replace("__", ".")).write_bytes(data)


def make(folder, path="one/a.jpg", settings=SETTINGS):
    return make_sample(Input(path), "train-00000003", Recipe(LocalStorage(folder), SPEC, settings))


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_members_and_row_of_a_sample(tmp_path):
    picture = jpeg(blobs(83, 61, 0))
    values = np.zeros((61, 83), np.uint8)
    values[:20], values[20:40] = 7, 255
    put(tmp_path, a__jpg=picture, a_labels__png=png(values))
    sample = make(tmp_path)
    assert list(sample.members) == ["jpg", "slic16.png", "slic8_ruler5.png", "density.png", "labels.png", "json"]
    regions = {layer: decoded(sample.members[f"{layer}.png"]) for layer in ("slic16", "slic8_ruler5")}
    labels = decoded(sample.members["labels.png"])
    assert labels.dtype == np.uint16
    assert (labels[:20] == 1).all() and (labels[20:40] == IGNORE).all() and (labels[40:] == 0).all()
    facts = {
        "key": "train-00000003",
        "source": "one/a.jpg",
        "source_sha256": hashlib.sha256(picture).hexdigest(),
        "group": "one",
        "width": 83,
        "height": 61,
        "original_width": 83,
        "original_height": 61,
        "num_regions": {layer: int(ids.max()) + 1 for layer, ids in regions.items()},
    }
    hashes = {m: hashlib.sha256(data).hexdigest() for m, data in sample.members.items() if m != "json"}
    assert json.loads(sample.members["json"]) == facts | {"kept_original_bytes": True, "sha256": hashes}
    sizes = {member: len(data) for member, data in sample.members.items()}
    assert sample.row == facts | {"member_bytes": sizes, "has_labels": True}


def test_maps_are_made_from_the_picture_as_it_is_stored(tmp_path):
    """A source that is encoded anew gives the maps of its new bytes: stored again, it gives the same maps."""
    values = png(np.zeros((61, 83), np.uint8))
    put(tmp_path, a__png=png(blobs(83, 61, 0)), a_labels__png=values)
    first = make(tmp_path, "one/a.png")
    put(tmp_path, b__jpg=first.members["jpg"], b_labels__png=values)
    second = make(tmp_path, "one/b.jpg")
    assert json.loads(second.members["json"])["kept_original_bytes"]
    for member in ("jpg", "slic16.png", "slic8_ruler5.png", "density.png"):
        assert first.members[member] == second.members[member]


def test_a_turned_picture_and_its_labels_stay_together(tmp_path):
    pixels = blobs(80, 60, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "one").mkdir()
    Image.fromarray(pixels).save(tmp_path / "one/a.png", exif=exif)
    put(tmp_path, a_labels__png=png((pixels[..., 0] > 128).astype(np.uint8)))
    sample = make(tmp_path, "one/a.png", PrepSettings(picture="png"))
    picture, labels = decoded(sample.members["png"]), decoded(sample.members["labels.png"])
    assert picture.shape == (80, 60, 3)
    assert np.array_equal(labels, picture[..., 2] > 128)
    assert (sample.row["original_width"], sample.row["original_height"]) == (60, 80)


@pytest.mark.parametrize(
    ("files", "stage", "code", "reason"),
    [
        ({}, "read", "missing", "the file is missing"),
        ({"a__jpg": b""}, "read", "empty", "the file is empty"),
        ({"a__jpg": b"?"}, "picture", "decode", "no picture in a known format"),
        ({"a__jpg": jpeg(blobs(40, 60, 0))[:-300]}, "picture", "decode", "cannot be decoded whole"),
        ({"a__jpg": jpeg(blobs(20, 20, 0))}, "picture", "too-small", "smaller than 32 pixels"),
        ({"a__jpg": jpeg(blobs(80, 60, 0))}, "labels", "no-label", "its label map is missing"),
        ({"a__jpg": jpeg(blobs(80, 60, 0)), "a_labels__png": b"?"}, "labels", "label", "label map cannot be decoded"),
        (
            {"a__jpg": jpeg(blobs(80, 60, 0)), "a_labels__png": png(np.zeros((80, 60), np.uint8))},
            "labels",
            "label",
            "its label map has 60 × 80 pixels, the picture 80 × 60",
        ),
        (
            {"a__jpg": jpeg(blobs(80, 60, 0)), "a_labels__png": png(np.full((60, 80), 3, np.uint8))},
            "labels",
            "label",
            "label value 3 is no class of dataset 'drives'",
        ),
    ],
)
def test_rejections_say_where_and_why(tmp_path, files, stage, code, reason):
    put(tmp_path, **files)
    rejection = make(tmp_path)
    assert isinstance(rejection, Rejection)
    assert (rejection.source, rejection.stage, rejection.code) == (
        "one/a.jpg",
        stage,
        code,
    ) and reason in rejection.reason


def test_a_path_that_fits_no_picture_and_a_picture_smaller_than_a_region_are_rejected(tmp_path):
    assert make(tmp_path, "two.tif") == Rejection(
        "two.tif", "name", "its path fits no picture of dataset 'drives'", "name"
    )
    put(tmp_path, a__jpg=jpeg(blobs(80, 40, 0)))
    rejection = make(tmp_path, settings=PrepSettings(regions=[RegionLayer.from_text("slic:60")]))
    assert rejection == Rejection("one/a.jpg", "regions", "80 × 40 is smaller than a region of slic:60", "too-small")


@pytest.mark.parametrize("fault", [errno.EIO, errno.ESTALE])
def test_a_read_that_fails_is_tried_again_for_minutes_and_then_rejected_by_name(tmp_path, monkeypatch, fault):
    put(tmp_path, a__jpg=jpeg(blobs(80, 60, 0)), a_labels__png=png(np.zeros((60, 80), np.uint8)))
    chunks, failures, delays = LocalStorage.chunks, [], []

    def failing(storage, name):
        if failures and name.endswith("jpg"):
            raise OSError(failures[0] if always else failures.pop(), "a fault")
        return chunks(storage, name)

    monkeypatch.setattr(LocalStorage, "chunks", failing)
    recipe = Recipe(LocalStorage(tmp_path), SPEC, PrepSettings(), Retries(wait=delays.append))

    def result():
        return make_sample(Input("one/a.jpg"), "train-00000003", recipe)

    always, failures = False, [fault] * 5
    assert isinstance(result(), PreparedSample) and delays == [1, 2, 4, 8, 16]
    always, failures = True, [fault]
    delays.clear()
    message = f"the file cannot be read ({os.strerror(fault)})"
    assert result() == Rejection("one/a.jpg", "read", message, "unreadable") and 60 < sum(delays) < 600
    delays.clear()
    assert isinstance(result(), Rejection) and sum(delays) < 5  # waiting was in vain
    always, failures = False, [fault]
    assert isinstance(result(), PreparedSample)
    always, failures = True, [fault]
    delays.clear()
    assert isinstance(result(), Rejection) and sum(delays) > 60  # faults pass again
    failures = [errno.ENOSPC]
    with pytest.raises(OSError, match="a fault"):
        result()


def test_an_interrupt_inside_a_decoder_ends_the_job_and_blames_no_picture(tmp_path, monkeypatch):
    """Compiled code turns the exception of Ctrl-C and SIGTERM into others, which decoders are allowed to raise."""

    def interrupted(*_, **__):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemError("returned a result with an exception set") from None

    put(tmp_path, a__jpg=jpeg(blobs(80, 60, 0)))
    monkeypatch.setattr(Image, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)

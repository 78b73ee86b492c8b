"""The reader of shards: the index, bytes as they were written, and errors that name shard and key."""

import re
import shutil

import cv2
import numpy as np
import pytest
from sharding import blobs, jpeg, png, shard_serially

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.regions import IGNORE, RegionLayer
from vice.data_specs.shard_format import DATASET_FILE, PrepSettings, parse_index
from vice.pipeline.shards import Shards

SPEC = DatasetSpec(
    name="halves",
    title="left and right",
    pictures=r"^images/(?P<id>(?P<group>[a-z])\d+)\.jpg$",
    labels="labels/{id}.png",
    classes=["left", "right"],
    ignore=[9],
)
SETTINGS = PrepSettings(
    split="val", regions=[RegionLayer.from_text("slic:10"), RegionLayer.from_text("slico:16")], samples_per_shard=2
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(5):
        name = f"{'ab'[number % 2]}{number}"
        labels = np.zeros((48, 64), np.uint8)
        labels[:, 32:] = 1
        labels[:number] = 9
        (folder / f"images/{name}.jpg").write_bytes(jpeg(blobs(64, 48, number)))
        (folder / f"labels/{name}.png").write_bytes(png(labels))
    return folder


@pytest.fixture(scope="module")
def out(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "val"
    shard_serially(source, folder, SETTINGS, SPEC)
    return folder


@pytest.fixture
def copied(out, tmp_path):
    return shutil.copytree(out, tmp_path / "copy")


def test_parse_index_reads_every_member_of_every_sample():
    text = "v1.2 2\njpg 512 10 a.jpg slic20.png 2048 7 a.slic20.png\njson 4096 3 b.json\n"
    assert parse_index(text) == [{"jpg": (512, 10), "slic20.png": (2048, 7)}, {"json": (4096, 3)}]


@pytest.mark.parametrize("text", ["v1.1 1\njpg 512 10 a.jpg\n", "v1.2 2\njpg 512 10 a.jpg\n", "v1.2 1\njpg x 10 a\n"])
def test_parse_index_refuses_another_version_and_half_an_index(text):
    with pytest.raises(ValueError):
        parse_index(text)


def test_stored_bytes_are_the_source_bytes(source, out):
    shards = Shards(out)
    assert len(shards) == 5
    for number, row in enumerate(shards.manifest.to_pylist()):
        stored, meta = shards.read(number, ["jpg", "json"])
        assert stored == (source / row["source"]).read_bytes()
        assert f'"key":"{row["key"]}"' in meta.decode()


def test_a_sample_has_the_arrays_that_were_stored(source, out):
    shards = Shards(out)
    for number, row in enumerate(shards.manifest.to_pylist()):
        sample = shards.sample(number)
        read = cv2.imread(str(source / row["source"]), cv2.IMREAD_COLOR_RGB)
        assert np.array_equal(sample.picture, read)
        assert list(sample.regions) == ["slic10", "slico16"] == shards.layers
        assert all(ids.shape == (48, 64) and ids.dtype == np.uint16 for ids in sample.regions.values())
        assert sample.density.shape == (12, 16)
        ignored = int(re.search(r"\d+", row["source"])[0])
        assert (sample.labels[:ignored] == IGNORE).all()
        assert (sample.labels[ignored:, :32] == 0).all() and (sample.labels[ignored:, 32:] == 1).all()


def test_shards_are_a_sequence_of_samples(out):
    shards = Shards(out)
    assert [sample.key for sample in shards] == shards.keys == [shards[number].key for number in range(5)]
    assert shards[-1].key == shards[np.int64(4)].key == shards.keys[4]
    assert np.array_equal(shards[2].picture, shards.sample(2).picture)
    for number in (5, -6):
        with pytest.raises(IndexError, match=f"no sample {number}, there are 5"):
            shards[number]
    with pytest.raises(TypeError):
        shards["val-00000000"]


def test_a_layer_can_be_named_either_way_and_others_left_out(out):
    shards = Shards(out)
    assert shards.layer_named("slico:16") == shards.layer_named("slico16") == "slico16"
    sample = shards.sample(0, ["slico:16"])
    assert list(sample.regions) == ["slico16"]
    assert sample.labels is not None and sample.labels.max() in (1, IGNORE)
    with pytest.raises(InputError, match=r"no region layer 'slic:99'.*slic:10, slico:16"):
        shards.layer_named("slic:99")


def test_sizes_groups_and_labels_come_from_the_manifest(out):
    shards = Shards(out)
    assert shards.sizes.tolist() == [[64, 48]] * 5
    assert sorted(shards.groups) == ["a", "a", "a", "b", "b"]
    assert shards.has_labels
    assert shards.spec == SPEC


def test_errors_name_shard_and_key(copied):
    shards = Shards(copied)
    with pytest.raises(WorkError, match=r"no member 'flow\.png'.*val-000001\.tar, key val-00000003"):
        shards.read(3, ["flow.png"])
    tar = copied / "shards" / "val-000001.tar"
    tar.write_bytes(tar.read_bytes()[:2000])
    with pytest.raises(WorkError, match=r"ends \d+ bytes early.*val-000001\.tar, key val-00000003"):
        shards.read(3, ["jpg"])
    tar.write_bytes(bytes(1_000_000))
    with pytest.raises(WorkError, match=r"its json is damaged: .*val-000001\.tar, key val-00000002.*verify"):
        shards.sample(2)
    (copied / "shards" / "val-000000.idx").write_text("v1.2 7\n")
    with pytest.raises(WorkError, match=r"index cannot be read.*val-000000\.idx"):
        shards.read(0, ["jpg"])


def test_what_is_not_a_complete_folder_of_shards_is_refused(copied, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        Shards(tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a folder of shards"):
        Shards(tmp_path)
    record = copied / DATASET_FILE
    record.write_text(record.read_text().replace('"version": 1', '"version": 4'))
    with pytest.raises(InputError, match="format version 4, this program reads versions 1 to 3"):
        Shards(copied)
    record.unlink()
    with pytest.raises(InputError, match=r"not complete.*run the same vice-prep shard again"):
        Shards(copied)

"""The shards are plain WebDataset: readers that know nothing of our code give the same arrays."""

import io

import cv2
import datasets
import numpy as np
import pytest
import webdataset
from dali_reader import assert_dali_agrees
from PIL import Image

from vice.pipeline.shards import Shards


def decoded(data, flags):
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def test_webdataset_reads_the_same_arrays(shards):
    ours = Shards(shards)
    urls = [str(path) for path in sorted(shards.glob("shards/*.tar"))]
    read = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in read] == ours.keys
    for number, sample in enumerate(read):
        mine = ours.sample(number)
        assert np.array_equal(decoded(sample["jpg"], cv2.IMREAD_COLOR_RGB), mine.picture)
        for member, array in (("slic10.png", mine.regions["slic10"]), ("labels.png", mine.labels)):
            assert np.array_equal(decoded(sample[member], cv2.IMREAD_UNCHANGED), array)


def test_dali_reads_the_same_arrays(shards):
    assert_dali_agrees(shards, ["slic10", "slico16"], "labels.png")


@pytest.fixture
def hugging_face(shards, tmp_path):
    """Our shards by their `datasets`, streamed."""
    tars = [str(path) for path in sorted(shards.glob("shards/*.tar"))]
    return datasets.load_dataset(
        "webdataset", data_files={"train": tars}, split="train", streaming=True, cache_dir=str(tmp_path)
    )


def test_hugging_face_datasets_decodes_the_same_arrays(shards, hugging_face):
    ours = Shards(shards)
    read = list(hugging_face)
    assert [sample["__key__"] for sample in read] == ours.keys
    for number, sample in enumerate(read):
        mine = ours.sample(number)
        assert np.array_equal(np.asarray(sample["jpg"].convert("RGB")), mine.picture)
        maps = {"slic10.png": mine.regions["slic10"], "slico16.png": mine.regions["slico16"]}
        for member, array in (maps | {"density.png": mine.density, "labels.png": mine.labels}).items():
            assert np.array_equal(np.asarray(sample[member]), array)
        assert sample["json"]["key"] == mine.key and sample["json"]["source"] == mine.meta["source"]


def test_hugging_face_datasets_gives_the_same_bytes(shards, hugging_face):
    ours = Shards(shards)
    raw = hugging_face.cast_column("jpg", datasets.Image(decode=False))
    for number, sample in enumerate(raw):
        assert sample["jpg"]["bytes"] == ours.read(number, ["jpg"])[0]
        assert Image.open(io.BytesIO(sample["jpg"]["bytes"])).size == tuple(ours.sizes[number])

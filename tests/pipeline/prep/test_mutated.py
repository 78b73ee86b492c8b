"""2,000 damaged files through the real job: no crash, each stored or rejected, what is stored decodes everywhere."""

import collections

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from dali_reader import assert_dali_agrees
from mutations import MUTATIONS, kinds, rng
from photographs import photographs

from vice.data_specs.dataset import load_dataset
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import MANIFEST_FILE, REJECTED_FILE, PrepSettings
from vice.pipeline.prep.job import shard_dataset
from vice.pipeline.prep.verify import verify_shards

NUM_FILES = 2000
MAX_BYTES = 300_000
FOLDERS = ["camvid/val/images", "coco_stuff", "coco_things", "bsds500"]
SETTINGS = PrepSettings(regions=[RegionLayer.from_text("slic:16")], samples_per_shard=100, max_pixels=4_000_000)


def crops(number_per_folder):
    """Crops of photographs, 96 to 160 pixels wide and high."""
    for folder in FOLDERS:
        paths = sorted(photographs(folder).rglob("*.jpg"))
        for number in range(number_per_folder):
            random = rng(hash_of(folder, number))
            pixels = cv2.imread(str(paths[random.integers(len(paths))]), cv2.IMREAD_COLOR_RGB)
            width, height = random.integers(96, 161, 2)
            top, left = random.integers(pixels.shape[0] - height), random.integers(pixels.shape[1] - width)
            yield np.ascontiguousarray(pixels[top : top + height, left : left + width])


def hash_of(folder, number):
    return FOLDERS.index(folder) * 1000 + number


def whole_files():
    """Name and bytes of the files to be damaged."""
    files = [(path.name, path.read_bytes()) for path in sorted(photographs("robustness").iterdir())]
    awkward = [(name, data) for name, data in files if len(data) <= MAX_BYTES and name[0].islower() and "__" in name]
    crops_of_all_kinds = [item for pixels in crops(3) for item in kinds(pixels).items()]
    return awkward + crops_of_all_kinds


@pytest.mark.photographs
def test_every_damaged_file_is_stored_or_rejected_and_what_is_stored_decodes(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    files, mutations = whole_files(), list(MUTATIONS)
    for number in range(NUM_FILES):
        mutation, random = mutations[number % len(mutations)], rng(10**6 + number)
        name, data = files[random.integers(len(files))]
        (source / f"{mutation}-{number:04d}-{name}").write_bytes(MUTATIONS[mutation](data, random))

    record = shard_dataset(source, out, SETTINGS, load_dataset("image_folder"), workers=2).record

    stored = pq.read_table(out / MANIFEST_FILE)["source"].to_pylist()
    rejected = pq.read_table(out / REJECTED_FILE).to_pylist()
    names = stored + [row["source"] for row in rejected]
    assert sorted(names) == sorted(path.name for path in source.iterdir()) and len(names) == NUM_FILES
    assert record.num_inputs == NUM_FILES and record.num_samples == len(stored)
    assert all(row["reason"] and row["stage"] in ("picture", "regions", "read") for row in rejected)
    by_mutation = collections.Counter(name.split("-")[0] for name in stored)
    assert len(stored) > 500 and len(rejected) > 800 and len(by_mutation) >= len(mutations) - 1
    verify_shards(out, deep=True)
    assert_dali_agrees(out, ["slic16"], batch_size=32)

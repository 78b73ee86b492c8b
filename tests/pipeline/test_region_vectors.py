"""Reading region vectors: the rows that any Parquet reader sees, in threads and forks; what is damaged is refused."""

import json
import multiprocessing
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
from region_vectors import make_vectors
from sharding import shard_blobs

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.fingerprint import fingerprint
from vice.pipeline.region_vectors import RegionVectors
from vice.pipeline.shards import Shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Seven pictures in shards of three."""
    return Shards(shard_blobs(tmp_path_factory.mktemp("shards"), 7, samples_per_shard=3))


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    return make_vectors(shards, "slic:10", tmp_path_factory.mktemp("vectors") / "out")


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of the folder, to be damaged."""
    shutil.copytree(whole.address, tmp_path / "out")
    return tmp_path / "out"


def by_parquet(vectors):
    """Vectors of every sample, as any reader of Parquet gives them."""
    tables = [pq.read_table(vectors.storage.folder / part.file) for part in vectors.record.parts]
    rows = [row for table in tables for row in table.select(["key", "vector"]).to_pylist()]
    keys = dict.fromkeys(row["key"] for row in rows)
    return [np.array([row["vector"] for row in rows if row["key"] == key], np.float16) for key in keys]


def test_any_sample_is_read_alone_and_equals_what_parquet_holds(shards, whole):
    expected = by_parquet(whole)
    assert len(expected) == len(whole) == len(shards)
    for number in (6, 0, 3, 2, 5, 1, 4):
        np.testing.assert_array_equal(whole.of_sample(number), expected[number])
    for found, number in zip(whole.of_samples([1, 4, 6]), (1, 4, 6), strict=True):
        np.testing.assert_array_equal(found, expected[number])
    with pytest.raises(IndexError, match="no sample 7, there are 7"):
        whole.of_sample(7)


def sums(vectors):
    return [float(vectors.of_sample(number).astype(np.float64).sum()) for number in range(len(vectors))]


def in_child(vectors, queue):
    queue.put(sums(vectors))


def test_threads_and_forked_processes_read_the_same_with_no_file_left_open(whole):
    vectors = RegionVectors(whole.address)
    expected, open_files = sums(whole), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - open descriptors
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(vectors.of_sample, list(range(7)) * 20))
    assert [float(one.astype(np.float64).sum()) for one in found] == expected * 20
    assert len(os.listdir("/proc/self/fd")) == open_files  # noqa: PTH208
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(vectors, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()


def test_a_file_that_is_missing_cut_or_changed_is_refused_with_its_name(copied):
    path = copied / "vectors" / "train-000001.parquet"
    RegionVectors(copied).verify()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(WorkError, match=r"sha256 is not the recorded one\): .*train-000001.parquet; remove this file"):
        RegionVectors(copied).verify()
    path.write_bytes(data[:-5])
    with pytest.raises(InputError, match=r"damaged region vectors \([0-9,]+ bytes instead of .*train-000001.parquet"):
        RegionVectors(copied)
    path.unlink()
    with pytest.raises(InputError, match=r"damaged region vectors \(missing\): .*train-000001.parquet"):
        RegionVectors(copied)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "region vectors of version 2, this program reads version 1"),
        ({"format": "vice-shards"}, "not a record of region vectors"),
        ({"layer": "slic:20"}, "the record was changed after it was written"),
    ],
)
def test_a_record_of_another_version_or_changed_is_refused(copied, change, said):
    record = json.loads((copied / "vectors.json").read_text())
    (copied / "vectors.json").write_text(json.dumps(record | change))
    with pytest.raises(InputError, match=said):
        RegionVectors(copied)


def test_the_record_carries_its_own_sha256(copied):
    record = json.loads((copied / "vectors.json").read_text())
    assert record.pop("fingerprint") == fingerprint(record)


def test_what_is_no_folder_of_vectors_says_how_to_make_one(tmp_path, shards):
    for folder in (tmp_path, tmp_path / "none", shards.address):
        with pytest.raises(InputError, match=r"no region vectors: .*; make them with: vice-eval embed ENCODER"):
            RegionVectors(folder)


def test_they_belong_to_their_shards_and_layer(whole, shards, tmp_path):
    whole.check(shards, "slic:10")
    whole.check(shards, "slic10")
    other = Shards(shard_blobs(tmp_path, 5, samples_per_shard=3))
    with pytest.raises(InputError, match=r"of other shards \(image_folder train, 7 pictures\) than .*5 pictures"):
        whole.check(other, "slic:10")
    with pytest.raises(InputError, match="belong to a stored layer"):
        whole.check(shards, "grid:4")

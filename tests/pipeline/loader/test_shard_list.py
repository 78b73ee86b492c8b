"""Samples of each shard, from the manifest."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vice.data_specs.errors import InputError
from vice.data_specs.shard_format import MANIFEST_FILE, MANIFEST_SCHEMA
from vice.pipeline.loader.shard_list import list_shards
from vice.pipeline.shards import Shards


def test_shards_are_counted_in_the_manifests_order(scene_shards):
    shards = Shards(scene_shards["train"])
    tars, sizes = list_shards(shards)
    assert tars == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    assert sizes.tolist() == [4, 4, 2]
    assert shards.manifest["shard"].to_pylist() == np.repeat(tars, sizes).tolist()


@pytest.fixture
def long_manifest(scene_shards, tmp_path):
    """Shards whose manifest has three shards of 3,000 rows, more than is read at once."""
    copy = shutil.copytree(scene_shards["train"], tmp_path / "copy")
    row = pq.read_table(copy / MANIFEST_FILE).slice(0, 1).to_pylist()[0]
    rows = [{**row, "shard": f"train-{number // 3000:06d}.tar", "index": number % 3000} for number in range(9000)]
    return copy, rows


def write(out, rows):
    pq.write_table(pa.Table.from_pylist(rows, MANIFEST_SCHEMA), out / MANIFEST_FILE)
    return Shards(out)


def test_a_shard_may_lie_in_several_pieces_of_the_manifest(long_manifest):
    out, rows = long_manifest
    assert list_shards(write(out, rows)).sizes.tolist() == [3000] * 3


@pytest.mark.parametrize(("one", "other"), [(0, 1), (4095, 4096), (10, 3010), (2999, 8999)])
def test_samples_that_are_out_of_order_are_refused(long_manifest, one, other):
    out, rows = long_manifest
    rows[one], rows[other] = rows[other], rows[one]
    with pytest.raises(InputError, match=r"do not follow one another: .*manifest\.parquet, train-00000\d\.tar"):
        list_shards(write(out, rows))

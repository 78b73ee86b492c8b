"""Damage after `verify`: an error that names shard and key, from both readers; never noise, never a hang."""

import shutil

import numpy as np
import pytest

from vice.data_specs.errors import InputError, WorkError
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.order import SampleOrder, Visit
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.shards import Shards

NUM_SAMPLES = 10
"""Training scenes, four a shard."""


def loader(out, reader="plain", *, batch=2, rank=0, world_size=1):
    view_settings = ViewSettings(num_views=2, size=32, regions="slic:12")
    return ViewLoader(Shards(out), view_settings, global_batch=batch, reader=reader, rank=rank, world_size=world_size)


def an_epoch(out, reader="plain"):
    loaded = loader(out, reader)
    return [key for _ in range(NUM_SAMPLES // 2) for key in next(loaded).keys]


@pytest.fixture
def copy(scene_shards, tmp_path):
    shutil.copytree(scene_shards["train"], tmp_path / "copy")
    return tmp_path / "copy"


def change(path, offset, data):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def flip(path, offset, bit):
    change(path, offset, bytes([path.read_bytes()[offset] ^ (1 << bit)]))


def place_of(out, member):
    """Tar, key, offset and size of a member of the third sample of the second shard."""
    shards = Shards(out)
    offset, size = shards._places("train-000001.tar")[2][member]
    return out / "shards" / "train-000001.tar", shards.keys[4 + 2], offset, size


@pytest.mark.parametrize("reader", ["dali", "plain"])
@pytest.mark.parametrize("member", ["jpg", "slic12.png", "density.png"])
def test_one_bit_flipped_anywhere_is_an_error_with_shard_and_key(copy, reader, member):
    tar, key, offset, size = place_of(copy, member)
    # late in the file, where a JPEG decoder would paint over the damage without a word
    flip(tar, offset + size * 4 // 5, 3)
    with pytest.raises(WorkError, match=rf"its {member} was changed.*train-000001\.tar, key {key}"):
        an_epoch(copy, reader)


def test_every_bit_counts(copy):
    tar, key, _, _ = place_of(copy, "jpg")
    whole, intact = tar.read_bytes(), Shards(copy).read(6, ["jpg", "slic12.png", "density.png"])
    rng = np.random.Generator(np.random.Philox(key=0))
    for member in ("jpg", "slic12.png", "density.png", "json"):
        _, _, offset, size = place_of(copy, member)
        for place, bit in zip(rng.integers(0, size, 40), rng.integers(0, 8, 40), strict=True):
            flip(tar, offset + int(place), int(bit))
            try:
                read = Shards(copy).read(6, ["jpg", "slic12.png", "density.png"])
            except WorkError as error:
                assert f"train-000001.tar, key {key}" in str(error)
            else:
                # the json has values that the loader does not use; what it gives is whole
                assert member == "json" and read == intact
            tar.write_bytes(whole)


@pytest.mark.parametrize("reader", ["dali", "plain"])
def test_a_tar_cut_off_or_gone_is_named(copy, reader):
    tar, _, offset, size = place_of(copy, "jpg")
    whole = tar.read_bytes()
    tar.write_bytes(whole[: offset + size // 2])
    with pytest.raises(WorkError, match=r"cannot read the shard.*train-000001\.tar, key train-0000000[67]"):
        an_epoch(copy, reader)
    tar.unlink()
    with pytest.raises(WorkError, match=r"cannot read the shard.*train-000001\.tar, key train-0000000[4-7]"):
        an_epoch(copy, reader)


def test_a_changed_index_or_manifest_is_named(copy):
    index = copy / "shards" / "train-000001.idx"
    whole = index.read_bytes()
    flip(index, len(whole) // 2, 0)
    with pytest.raises(WorkError, match=r"its sha256 is not the recorded one.*train-000001\.idx"):
        an_epoch(copy)
    index.write_bytes(whole)
    manifest = copy / "manifest.parquet"
    flip(manifest, manifest.stat().st_size // 2, 0)
    with pytest.raises(InputError, match=r"manifest cannot be read .its sha256.*run vice-prep verify"):
        an_epoch(copy)


def test_shards_of_another_run_in_the_same_place_are_noticed(copy, scene_shards):
    shards = copy / "shards"
    shutil.copy(shards / "train-000000.tar", shards / "train-000001.tar")
    shutil.copy(shards / "train-000000.idx", shards / "train-000001.idx")
    with pytest.raises(WorkError, match=r"train-000001"):
        an_epoch(copy)


@pytest.mark.parametrize("reader", ["dali", "plain"])
def test_a_loader_that_failed_says_so_again_and_goes_on_once_it_can(copy, reader):
    tar = copy / "shards" / "train-000001.tar"
    failing = loader(copy, reader, batch=10)
    tar.rename(tar.with_suffix(".away"))
    for _ in range(2):
        with pytest.raises(WorkError, match="cannot read the shard"):
            next(failing)
    tar.with_suffix(".away").rename(tar)
    assert sorted(next(failing).keys) == Shards(copy).keys


@pytest.mark.parametrize("reader", ["dali", "plain"])
def test_one_picture_works(tmp_path, reader):
    from sharding import blobs, jpeg, shard_serially

    from vice.data_specs.shard_format import PrepSettings

    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "only.jpg").write_bytes(jpeg(blobs(97, 61, 0)))
    shard_serially(tmp_path / "source", tmp_path / "out", PrepSettings())
    view_settings = ViewSettings(num_views=2, size=32)
    loaded = ViewLoader(Shards(tmp_path / "out"), view_settings, global_batch=3, reader=reader)
    batches = [next(loaded) for _ in range(2)]
    assert all(batch.keys == ["train-00000000"] * 3 for batch in batches)
    # each visit is another epoch's, with views of its own
    assert not np.array_equal(batches[0].images[0, 0], batches[0].images[0, 1])


def test_fewer_shards_and_samples_than_processes_work(scene_shards):
    order = SampleOrder(1, global_batch=4, seed=0, rank=3, world_size=4)
    assert [order.visits(step) for step in range(2)] == [[Visit(3, 0)], [Visit(7, 0)]]
    parts = [next(loader(scene_shards["train"], batch=8, rank=rank, world_size=8)).keys for rank in range(8)]
    assert sorted(key for part in parts for key in part) == sorted(next(loader(scene_shards["train"], batch=8)).keys)

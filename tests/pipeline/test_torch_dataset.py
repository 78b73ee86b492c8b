"""The torch dataset: complete and disjoint over processes and workers, the same batches for any number of them."""

import pickle
import re
import shutil
import traceback
from itertools import chain

import numpy as np
import pytest
import torch
from sharding import blobs, jpeg, png, shard_serially
from torch.utils.data import DataLoader

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.regions import IGNORE, RegionLayer
from vice.data_specs.shard_format import PrepSettings, parse_index
from vice.pipeline.shards import Shards
from vice.pipeline.torch_dataset import ShardDataset

NUM = 11
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")

SPEC = DatasetSpec(
    name="halves",
    title="left and right",
    pictures=r"^images/(?P<id>p\d+)\.jpg$",
    labels="labels/{id}.png",
    classes=["left", "right", "corner"],
    ignore=[9],
    class_sets={"2": {"classes": ["left", "right"], "of": [0, 1, 0]}},
)
SETTINGS = PrepSettings(
    regions=[RegionLayer.from_text("slic:10"), RegionLayer.from_text("slico:16")], samples_per_shard=4
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(NUM):
        labels = np.zeros((48, 64), np.uint8)
        labels[:, 32:], labels[0, 0], labels[40:] = 1, 2, 9
        (folder / f"images/p{number:02d}.jpg").write_bytes(jpeg(blobs(64, 48, number)))
        (folder / f"labels/p{number:02d}.png").write_bytes(png(labels))
    return folder


@pytest.fixture(scope="module")
def out(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "train"
    shard_serially(source, folder, SETTINGS, SPEC)
    return folder


@pytest.fixture(scope="module")
def shards(out):
    return Shards(out)


def numbers(dataset, **loader):
    """The samples of an epoch, in the order in which a DataLoader gives them."""
    return [sample["number"] for sample in DataLoader(dataset, batch_size=None, **loader)]


def failure(loader):
    """The samples that a DataLoader gives before it fails, and the error."""
    read = []
    try:
        for sample in loader:
            read.append(sample["number"])
    except Exception as error:
        # the frames hold the loader, which ends its workers in time only if it is not left to the garbage collector
        traceback.clear_frames(error.__traceback__)
        return read, error
    return pytest.fail("nothing failed")


def test_a_sample_is_what_the_shards_hold(shards):
    dataset = ShardDataset(shards, density=True, meta=True)
    for sample in dataset:
        mine = shards[sample["number"]]
        assert sample["key"] == mine.key and sample["meta"] == mine.meta
        assert sample["picture"].dtype == torch.uint8 and sample["picture"].is_contiguous()
        assert np.array_equal(sample["picture"].permute(1, 2, 0).numpy(), mine.picture)
        assert list(sample["regions"]) == ["slic10", "slico16"]
        for layer, ids in sample["regions"].items():
            assert ids.dtype == torch.int32 and np.array_equal(ids.numpy(), mine.regions[layer])
        assert sample["labels"].dtype == torch.int64 and np.array_equal(sample["labels"].numpy(), mine.labels)
        assert np.array_equal(sample["density"].numpy(), mine.density)


def test_only_what_is_asked_for_is_read(shards, monkeypatch):
    read, asked = shards.read, []
    monkeypatch.setattr(shards, "read", lambda number, members: asked.append(members) or read(number, members))
    sample = ShardDataset(shards, layers=["slico:16"], labels=False).sample(0)
    assert set(sample) == {"key", "number", "picture", "regions"} and list(sample["regions"]) == ["slico16"]
    ShardDataset(shards, layers=[], density=True).sample(0)
    assert asked == [["jpg", "slico16.png"], ["jpg", "labels.png", "density.png"]]


def test_labels_come_in_the_set_of_classes_that_was_asked(out):
    labels = ShardDataset(Shards(out, class_set="2")).sample(0)["labels"]
    assert labels[0, 0] == 0 and labels[0, 63] == 1 and (labels[40:] == IGNORE).all()


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_an_epoch_is_complete_and_disjoint(shards, world_size, num_workers):
    ranks = [ShardDataset(shards, seed=5, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = [numbers(dataset, num_workers=num_workers) for dataset in ranks]
    assert sorted(chain(*seen)) == list(range(NUM))
    assert [len(part) for part in seen] == [len(dataset) for dataset in ranks]
    # neither ranks nor workers change the order of the whole
    whole = numbers(ShardDataset(shards, seed=5))
    assert seen == [whole[rank::world_size] for rank in range(world_size)]


def test_the_order_is_a_function_of_seed_and_epoch(shards):
    first, other = ShardDataset(shards, seed=1), ShardDataset(shards, seed=2)
    order = numbers(first)
    assert order == numbers(first) == numbers(ShardDataset(shards, seed=1))
    assert order != numbers(other) and order != sorted(order)
    first.set_epoch(1)
    assert numbers(first) != order
    first.set_epoch(0)
    assert numbers(first) == order
    assert numbers(ShardDataset(shards, shuffle=False)) == list(range(NUM))


def test_processes_that_must_step_together_leave_out_the_rest(shards):
    ranks = [ShardDataset(shards, rank=rank, world_size=3, drop_uneven=True) for rank in range(3)]
    left_out = set()
    for epoch in range(6):
        for dataset in ranks:
            dataset.set_epoch(epoch)
        seen = [numbers(dataset) for dataset in ranks]
        assert [len(part) for part in seen] == [len(dataset) for dataset in ranks] == [3, 3, 3]
        assert len(set(chain(*seen))) == 9
        left_out |= set(range(NUM)) - set(chain(*seen))
    assert len(left_out) > 2, "not always the same ones"


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_workers_do_not_change_the_batches(shards, num_workers):
    dataset = ShardDataset(shards, batch_size=2)
    loader = DataLoader(dataset, batch_size=2, num_workers=num_workers)
    batches = [batch["number"].tolist() for batch in loader]
    order = numbers(ShardDataset(shards))
    assert batches == [order[i : i + 2] for i in range(0, NUM, 2)]
    assert len(loader) == len(batches)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_goes_on_where_it_was_left(shards, num_workers):
    dataset = ShardDataset(shards, rank=1, world_size=2, batch_size=2)
    dataset.set_epoch(3)
    whole = [batch["number"].tolist() for batch in DataLoader(dataset, batch_size=2, num_workers=num_workers)]
    again = ShardDataset(shards, rank=1, world_size=2, batch_size=2)
    again.set_epoch(3, start=2)
    loader = DataLoader(again, batch_size=2, num_workers=num_workers)
    assert [batch["number"].tolist() for batch in loader] == whole[1:]
    assert len(again) == NUM // 2 - 2 and len(loader) == len(whole) - 1
    again.set_epoch(3, start=NUM)
    assert len(again) == 0 and list(again) == []


def test_persistent_workers_see_the_epoch(shards):
    dataset = ShardDataset(shards)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    for epoch in (0, 1, 4):
        dataset.set_epoch(epoch)
        seen = [sample["number"] for sample in loader]
        assert seen == [sample["number"] for sample in dataset]
        assert sorted(seen) == list(range(NUM))


def test_workers_may_be_spawned(shards):
    dataset = ShardDataset(shards, layers=["slic:10"])
    dataset.set_epoch(2)
    expected = [(sample["number"], sample["picture"].sum()) for sample in dataset]
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert [(sample["number"], sample["picture"].sum()) for sample in loader] == expected
    assert numbers(pickle.loads(pickle.dumps(dataset))) == [number for number, _ in expected]


def test_a_transform_makes_what_is_yielded(shards):
    dataset = ShardDataset(shards, layers=[], transform=lambda sample: sample["picture"][:, :8, :8])
    batches = list(DataLoader(dataset, batch_size=4))
    assert [tuple(batch.shape) for batch in batches] == [(4, 3, 8, 8), (4, 3, 8, 8), (3, 3, 8, 8)]


def failing(sample):
    raise ArithmeticError("no mean of nothing")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_of_a_transform_name_the_sample(shards, num_workers):
    loader = DataLoader(
        ShardDataset(shards, shuffle=False, transform=failing), batch_size=None, num_workers=num_workers
    )
    _, error = failure(loader)
    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert isinstance(error, ArithmeticError) and "no mean of nothing" in text
    assert "in the transform of " in text and "train-000000.tar, key train-00000000" in text


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_sample_is_named_in_one_line(out, tmp_path, num_workers):
    copy = shutil.copytree(out, tmp_path / "copy")
    tar = copy / "shards" / "train-000001.tar"
    tar.write_bytes(bytes(tar.stat().st_size))
    loader = DataLoader(ShardDataset(Shards(copy), shuffle=False), batch_size=None, num_workers=num_workers)
    read, error = failure(loader)
    assert read == [0, 1, 2, 3] and isinstance(error, WorkError)
    where = f"{copy}/shards/train-000001.tar, key train-00000004"
    assert str(error) == f"its json is damaged: {where}; run vice-prep verify"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_unreadable_meta_is_named(out, tmp_path):
    copy = shutil.copytree(out, tmp_path / "copy")
    tar = copy / "shards" / "train-000000.tar"
    offset, size = parse_index(tar.with_suffix(".idx").read_text())[1]["json"]
    data = bytearray(tar.read_bytes())
    data[offset : offset + size] = b"?" * size
    tar.write_bytes(data)
    with pytest.raises(WorkError, match=r"its json is damaged: .*train-000000\.tar, key train-00000001"):
        ShardDataset(Shards(copy), meta=True).sample(1)


def test_what_cannot_be_is_refused(shards, source, tmp_path):
    with pytest.raises(InputError, match="no region layer 'slic:99'"):
        ShardDataset(shards, layers=["slic:99"])
    with pytest.raises(InputError, match="no rank 2 of 2"):
        ShardDataset(shards, rank=2, world_size=2)
    with pytest.raises(InputError, match="counted from 0"):
        ShardDataset(shards).set_epoch(0, start=-1)
    shard_serially(source / "images", tmp_path / "plain", SETTINGS)
    plain = ShardDataset(Shards(tmp_path / "plain"))
    assert "labels" not in plain.sample(0)
    with pytest.raises(InputError, match="these shards have no labels"):
        ShardDataset(plain.shards, labels=True)


def test_an_object_store_is_read_by_spawned_workers_and_refused_by_forked_ones(out, s3):
    dataset = ShardDataset(Shards(s3.upload(out, "torch-dataset")), layers=["slic:10"], seed=3)
    _, error = failure(DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork"))
    assert isinstance(error, WorkError)
    assert re.search(r'forked workers.*s3://.*multiprocessing_context="spawn"', str(error))
    seen = numbers(dataset, num_workers=2, multiprocessing_context="spawn")
    assert seen == numbers(dataset) and sorted(seen) == list(range(NUM))

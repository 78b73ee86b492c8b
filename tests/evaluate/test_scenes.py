import numpy as np
import pytest

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.regions import IGNORE
from vice.evaluate import scenes as scenes_module
from vice.evaluate.scenes import data_ref, in_batches, open_pair, scenes, shared_pictures
from vice.pipeline.shards import Shards


def test_scenes_are_numbered_through_the_pool(train, val):
    everything = list(scenes([train, val], "test"))
    assert [scene.number for scene in everything] == list(range(len(train) + len(val)))
    assert [scene.key for scene in everything] == train.keys + val.keys
    assert everything[-1].labels.shape == everything[-1].picture.shape[:2]
    assert 0.1 < np.mean(everything[0].labels == IGNORE) < 0.3


def test_some_numbers_give_the_same_scenes_as_all(train, val):
    everything = list(scenes([train, val], "test"))
    for scene in scenes([train, val], "test", numbers=[2, 8, 11]):
        assert scene.key == everything[scene.number].key
        np.testing.assert_array_equal(scene.picture, everything[scene.number].picture)


def test_batches_keep_order_and_hold_one_size_within_the_limit(train, val, monkeypatch):
    monkeypatch.setattr(scenes_module, "PIXELS_AT_ONCE", 3 * 96 * 64)
    batches = list(in_batches(scenes([train, val], "test")))
    assert [scene.number for batch in batches for scene in batch] == list(range(len(train) + len(val)))
    assert all(len({scene.labels.shape for scene in batch}) == 1 for batch in batches)
    assert max(len(batch) for batch in batches) <= 3
    monkeypatch.setattr(scenes_module, "PIXELS_AT_ONCE", 1)
    assert all(len(batch) == 1 for batch in in_batches(scenes([train], "test")))


def test_a_label_that_is_no_class_is_told_with_its_place(train, monkeypatch):
    """Shards of other programs may hold what ours never writes."""
    monkeypatch.setattr(type(train), "classes", ["only one"])
    with pytest.raises(WorkError, match=r"label value [12] is none of the 1 classes: .*train-000000.tar, key train-0"):
        list(scenes([train], "test"))


def test_val_pictures_that_are_in_train_are_counted_and_refused_above_the_limit(tiny, train, val):
    mixed = Shards(tiny["mixed"])
    assert shared_pictures(train, val, limit=0.0) == 0
    assert shared_pictures(train, mixed, limit=0.8) == 0.8
    with pytest.raises(InputError, match=r"4 of 5 val pictures are also in train, .*north_0.png.*--max-shared 0.8"):
        shared_pictures(train, mixed, limit=0.79)


def test_data_ref_names_the_shards(train):
    ref = data_ref(train)
    assert (ref.dataset, ref.split, ref.num_pictures, ref.fingerprint) == ("tiny", "train", 7, train.fingerprint)


@pytest.mark.parametrize(
    ("other", "message"),
    [("unlabelled", "no labels"), ("other_classes", "the classes differ"), ("train", "the same shards")],
)
def test_shards_that_cannot_be_evaluated_are_refused(tiny, other, message):
    with pytest.raises(InputError, match=message):
        open_pair(tiny["train"], tiny[other])

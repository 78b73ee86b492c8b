"""A teacher's vectors in batches: those of the mutual regions, for both readers, after resuming, on several ranks."""

import itertools

import pytest
import torch
from region_vectors import make_vectors

from vice.data_specs.errors import InputError
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.shards import Shards


@pytest.fixture(scope="module")
def shards(scene_shards):
    return Shards(scene_shards["train"])


@pytest.fixture(scope="module")
def teacher(shards, tmp_path_factory):
    return make_vectors(shards, "slic:12", tmp_path_factory.mktemp("teacher") / "out")


def loader(shards, teacher, reader="plain", *, rank=0, world_size=1, **views):
    settings = ViewSettings(**{"num_views": 2, "size": 64, "regions": "slic:12", **views})
    options = {"global_batch": 4, "reader": reader, "rank": rank, "world_size": world_size}
    return ViewLoader(shards, settings, teacher=teacher, **options)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


@pytest.mark.parametrize("reader", ["dali", "plain"])
@pytest.mark.parametrize("views", [{}, {"num_views": 1}, {"num_views": 3, "max_regions": 6}])
def test_rows_are_the_vectors_of_the_mutual_regions(shards, teacher, reader, views):
    for batch in take(loader(shards, teacher, reader, **views), 4):
        assert batch.teacher.dtype == torch.float16
        assert batch.teacher.shape == (*batch.region_ids.shape, 5)
        assert batch.num_regions.max() > 0
        for key, ids, count, rows in zip(
            batch.keys, batch.region_ids, batch.num_regions.tolist(), batch.teacher, strict=True
        ):
            stored = torch.from_numpy(teacher.of_sample(shards.keys.index(key)).copy())
            assert torch.equal(rows[:count], stored[ids[:count]])
            assert not rows[count:].any()


def test_both_readers_give_the_same_rows(shards, teacher):
    several = (take(loader(shards, teacher, reader, num_views=1), 3) for reader in ("dali", "plain"))
    for dali, plain in zip(*several, strict=True):
        assert dali.keys == plain.keys
        for field in ("regions", "num_regions", "region_ids", "masked", "teacher"):
            assert torch.equal(getattr(dali, field), getattr(plain, field)), field


@pytest.mark.parametrize("reader", ["dali", "plain"])
def test_without_a_teacher_there_are_no_rows(shards, reader):
    assert next(loader(shards, None, reader)).teacher is None


@pytest.mark.parametrize("reader", ["dali", "plain"])
def test_a_resumed_loader_gives_the_same_rows(shards, teacher, reader):
    whole = take(loader(shards, teacher, reader), 5)
    first = loader(shards, teacher, reader)
    take(first, 2)
    second = loader(shards, teacher, reader)
    second.load_state_dict(first.state_dict())
    for batch, expected in zip(take(second, 3), whole[2:], strict=True):
        assert batch.keys == expected.keys and torch.equal(batch.teacher, expected.teacher)


def test_two_ranks_share_the_rows_of_one(shards, teacher):
    whole = take(loader(shards, teacher), 3)
    ranks = [loader(shards, teacher, rank=rank, world_size=2) for rank in range(2)]
    for expected in whole:
        parts = [next(one) for one in ranks]
        pictures = list(
            itertools.chain.from_iterable(zip(*(zip(p.keys, p.teacher, strict=True) for p in parts), strict=True))
        )
        for (key, rows), expected_key, all_rows, count in zip(
            pictures, expected.keys, expected.teacher, expected.num_regions.tolist(), strict=True
        ):
            assert key == expected_key and torch.equal(rows[:count], all_rows[:count])


def test_the_state_names_the_teacher(shards, teacher, tmp_path):
    with_one, without = loader(shards, teacher).state_dict(), loader(shards, None).state_dict()
    assert with_one["teacher"] == teacher.fingerprint and "teacher" not in without
    loader(shards, None).load_state_dict(without)
    for state, one, said in (
        (with_one, None, f"teacher: '{teacher.fingerprint}' -> None"),
        (without, teacher, f"teacher: None -> '{teacher.fingerprint}'"),
    ):
        with pytest.raises(InputError) as error:
            loader(shards, one).load_state_dict(state)
        assert str(error.value) == f"cannot go on with other data or views: {said}; start a new run"


def test_a_teacher_of_other_shards_or_of_another_layer_is_refused_in_one_line(scene_shards, shards, teacher):
    val = Shards(scene_shards["val"])
    for where, views, said in (
        (
            val,
            {},
            f"region vectors of other shards (scenes train, 10 pictures) than {val.address} (scenes val, 4 pictures)",
        ),
        (shards, {"regions": "slic:20"}, "region vectors of layer slic:12, not slic:20"),
        (shards, {"regions": "grid:16"}, "region vectors belong to a stored layer (slic:12), regions are grid:16"),
        (shards, {"regions": "pixel"}, "region vectors belong to a stored layer (slic:12), regions are pixel"),
    ):
        with pytest.raises(InputError) as error:
            loader(where, teacher, **views)
        assert said in str(error.value) and teacher.address in str(error.value) and "\n" not in str(error.value)

"""Order with windows of shards: complete and disjoint as without, and at any time from few shards."""

from itertools import chain, groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vice.data_specs.errors import InputError
from vice.pipeline.loader.order import SampleOrder, Visit

SIZES = [4, 4, 3, 4, 1, 4, 2, 4]


def order(sizes=SIZES, *, batch=12, window=3, seed=0, rank=0, world_size=1):
    return SampleOrder(
        sum(sizes),
        global_batch=batch,
        seed=seed,
        rank=rank,
        world_size=world_size,
        window=window,
        shard_sizes=sizes,
    )


def visits(sizes, steps, **options):
    """Visits of some steps by the ranks of each number of processes, dealt back into one list."""
    world_size = options.get("world_size", 1)
    ranks = [order(sizes, **{**options, "rank": rank}) for rank in range(world_size)]
    dealt = (zip(*(rank.visits(step) for rank in ranks), strict=True) for step in steps)
    return list(chain.from_iterable(chain.from_iterable(dealt)))


shapes = st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 10), st.integers(0, 2**40))


@given(shapes, st.sampled_from([1, 2, 3, 4]))
def test_every_epoch_is_complete_whatever_the_number_of_processes(shape, world_size):
    sizes, window, seed = shape
    epochs, num_samples = 3, sum(sizes)
    steps = range(-(-epochs * num_samples // 12))
    seen = visits(sizes, steps, window=window, seed=seed, world_size=world_size)
    assert seen == visits(sizes, steps, window=window, seed=seed)
    assert len(seen) == 12 * len(steps)
    whole = sorted(visit for visit in seen if visit.epoch < epochs)
    assert whole == [Visit(epoch, sample) for epoch in range(epochs) for sample in range(num_samples)]


@given(shapes)
def test_samples_come_from_one_window_of_shards_at_a_time(shape):
    sizes, window, seed = shape
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    one = order(sizes, batch=1, window=window, seed=seed)
    places = range(2 * sum(sizes))
    runs = groupby(places, key=one.window_of)
    shards = [{int(shard_of[one.visits(place)[0].sample]) for place in run} for _, run in runs]
    per_epoch = -(-len(sizes) // window)
    assert len(shards) == 2 * per_epoch and all(len(together) <= window for together in shards)
    for epoch in (shards[:per_epoch], shards[per_epoch:]):
        assert sorted(chain.from_iterable(epoch)) == list(range(len(sizes)))


@given(shapes, st.sampled_from([1, 2, 3, 4]))
def test_the_shards_of_a_window_are_those_read_in_the_order_of_first_need(shape, world_size):
    sizes, window, seed = shape
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    finder = order(sizes, batch=1, window=window, seed=seed)
    for rank in range(world_size):
        mine = order(sizes, window=window, seed=seed, rank=rank, world_size=world_size)
        read = {}
        for step in range(4):
            for place, visit in enumerate(mine.visits(step)):
                at = finder.window_of(step * 12 + rank + place * world_size)
                read.setdefault(at, {})[int(shard_of[visit.sample])] = None
        # the last one may not have ended
        for at in list(read)[:-1]:
            assert mine.shards_of(at) == list(read[at])


def test_epochs_seeds_and_windows_have_their_own_orders():
    first, second = ([v.sample for v in visits(SIZES, [t], batch=26)] for t in (0, 1))
    other_seed, other_window, all_shards, more, none = (
        [v.sample for v in visits(SIZES, [0], batch=26, **options)]
        for options in ({"seed": 1}, {"window": 2}, {"window": 8}, {"window": 99}, {"window": 0})
    )
    orders = [first, second, other_seed, other_window, all_shards, none]
    assert len({tuple(one) for one in orders}) == len(orders) and all_shards == more
    assert all(sorted(one) == list(range(26)) for one in orders)


def test_a_window_of_all_shards_mixes_all_samples():
    """The mean distance of neighbours of a complete shuffle is n / 3; shards kept together would give far less."""
    sizes = [50] * 40
    samples = [v.sample for v in visits(sizes, [0], batch=2000, window=40)]
    assert np.abs(np.diff(samples)).mean() == pytest.approx(2000 / 3, rel=0.1)


def test_the_order_of_runs_that_exist_does_not_change():
    """Written down when there was no window yet, and when there first was."""
    without = [[0, 2, 1, 5], [4, 3, 6, 1], [2, 3, 5, 0], [4, 6, 6, 3]]
    assert [[v.sample for v in order([7], batch=4, window=0).visits(step)] for step in range(4)] == without
    with_one = [[v.sample for v in order(batch=9, window=3).visits(step)] for step in range(3)]
    assert with_one == [
        [17, 15, 18, 20, 19, 21, 16, 3, 11],
        [12, 14, 9, 10, 13, 1, 8, 0, 2],
        [4, 25, 24, 7, 23, 5, 22, 6, 7],
    ]


def test_a_hundred_million_samples_are_in_memory_a_window_at_a_time():
    sizes = np.full(24_415, 4096)
    big = SampleOrder(int(sizes.sum()), global_batch=4, seed=0, window=16, shard_sizes=sizes)
    [window] = {big.window_of(step) for step in range(10_000_000, 10_000_010)}
    shards = big.shards_of(window)
    assert len(shards) == 16
    assert {visit.sample // 4096 for visit in big.visits(10_000_000)} <= set(shards)
    assert len(big._windows.mixed(0, window).samples) == 16 * 4096


def test_what_is_no_window_is_refused():
    with pytest.raises(InputError, match="a window of -1 shards"):
        order(window=-1)
    with pytest.raises(ValueError, match="shards of 26 samples together, not 27"):
        SampleOrder(27, global_batch=1, seed=0, window=2, shard_sizes=SIZES)

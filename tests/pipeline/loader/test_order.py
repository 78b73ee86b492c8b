"""Order: complete and disjoint every epoch, whatever the number of processes; a function of (seed, step, rank)."""

from itertools import chain

import pytest

from vice.data_specs.errors import InputError
from vice.pipeline.loader.order import SampleOrder, Visit


def visits(num_samples, batch, world_size, steps, seed=0):
    orders = [
        SampleOrder(num_samples, global_batch=batch, seed=seed, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    return [[order.visits(step) for order in orders] for step in steps]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("num_samples", [1, 5, 24, 37])
def test_every_epoch_is_complete_and_ranks_are_disjoint(num_samples, world_size):
    batch, epochs = 12, 6
    steps = range(-(-epochs * num_samples // batch))
    seen = list(chain.from_iterable(chain.from_iterable(visits(num_samples, batch, world_size, steps))))
    assert len(seen) == len(steps) * batch
    whole = [visit for visit in seen if visit.epoch < epochs]
    assert sorted(whole) == [Visit(epoch, sample) for epoch in range(epochs) for sample in range(num_samples)]


def test_a_step_has_the_same_samples_for_any_number_of_processes():
    def globally(world_size):
        ranks = visits(37, 12, world_size, [3])[0]
        return [ranks[place % world_size][place // world_size] for place in range(12)]

    assert globally(1) == globally(2) == globally(3) == globally(4)


def test_epochs_and_seeds_have_their_own_permutations():
    epochs = [[visit.sample for visit in step[0]] for step in visits(50, 50, 1, range(3))]
    other_seed = [visit.sample for visit in visits(50, 50, 1, [0], seed=1)[0][0]]
    assert epochs[0] != epochs[1] != epochs[2] and epochs[0] != other_seed
    assert epochs[0] != sorted(epochs[0])


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match="3 processes cannot share a global batch of 8 pictures"):
        SampleOrder(10, global_batch=8, seed=0, world_size=3)
    with pytest.raises(InputError, match="no sample"):
        SampleOrder(0, global_batch=8, seed=0)

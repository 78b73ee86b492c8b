"""A loader's state moves between numbers of processes: nothing lost or repeated; what does not fit is refused."""

import itertools

import pytest
import torch
from sharding import blobs, jpeg, shard_serially

from vice.data_specs.errors import InputError
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.shards import Shards

BATCH, NUM_SAMPLES = 12, 19


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """19 pictures, which no batch divides, in five shards of four and one of three."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "pictures").mkdir()
    for number in range(NUM_SAMPLES):
        (folder / f"pictures/{number:02d}.jpg").write_bytes(jpeg(blobs(48, 40, number)))
    return make_shards(folder, samples_per_shard=4)


def make_shards(folder, **settings):
    settings = PrepSettings(regions=[RegionLayer.from_text("slic:10")], **settings)
    shard_serially(folder / "pictures", folder / settings.split, settings)
    return folder / settings.split


def loader(out, *, rank=0, world_size=1, batch=BATCH, seed=3, window=0, **views):
    settings = ViewSettings(**{"num_views": 2, "size": 32, "resize": (0.5, 1.0), "regions": "slic:10", **views})
    return ViewLoader(
        Shards(out),
        settings,
        global_batch=batch,
        seed=seed,
        window=window,
        rank=rank,
        world_size=world_size,
        reader="plain",
    )


def group(out, world_size, state=None, **options):
    """The loaders of all processes, at a state."""
    loaders = [loader(out, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    for one in loaders if state else ():
        one.load_state_dict(state)
    return loaders


def steps(loaders, count):
    """Per step of a group: keys of the global batch, its pictures [m, b, 3, h, w], its number of regions [b]."""
    for _ in range(count):
        parts = [next(one) for one in loaders]
        keys = list(itertools.chain.from_iterable(zip(*(part.keys for part in parts), strict=True)))
        images = torch.stack([part.images for part in parts], 2).flatten(1, 2)
        yield keys, images, torch.stack([part.num_regions for part in parts], 1).flatten()


@pytest.mark.parametrize("window", [0, 2])
@pytest.mark.parametrize("before", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_run_goes_on_exactly_with_another_number_of_processes(out, before, after, window):
    whole = list(steps(group(out, 1, window=window), 5))
    first = group(out, before, window=window)
    # in the second epoch, and not at its beginning
    seen = list(steps(first, 2))
    states = [one.state_dict() for one in first]
    assert all(state == states[0] for state in states)
    seen += list(steps(group(out, after, states[0], window=window), 3))
    for (keys, images, counts), (expected, expected_images, expected_counts) in zip(seen, whole, strict=True):
        assert keys == expected
        assert torch.equal(images, expected_images) and torch.equal(counts, expected_counts)
    # 60 visits: three epochs and three pictures of the fourth
    every_key = [key for keys, _, _ in seen for key in keys]
    for epoch in range(3):
        assert len(set(every_key[epoch * NUM_SAMPLES : (epoch + 1) * NUM_SAMPLES])) == NUM_SAMPLES


def test_a_run_may_change_its_number_of_processes_again_and_again(out):
    keys, state = [], None
    for world_size in (2, 1, 4, 3, 6, 12):
        loaders = group(out, world_size, state, window=2)
        keys += [keys for keys, _, _ in steps(loaders, 1)]
        state = loaders[-1].state_dict()
    assert keys == [keys for keys, _, _ in steps(group(out, 1, window=2), 6)]


def test_a_number_of_processes_that_cannot_share_the_batch_is_refused(out):
    with pytest.raises(InputError, match="5 processes cannot share a global batch of 12 pictures"):
        loader(out, rank=1, world_size=5)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"batch": 24}, "global_batch: 12 -> 24"),
        ({"seed": 4}, "seed: 3 -> 4"),
        ({"window": 2}, "window: 0 -> 2"),
        ({"num_views": 3}, "views.num_views: 2 -> 3"),
        ({"mask_share": 0.0, "size": 64}, "views.mask_share: 0.25 -> 0.0; views.size: 32 -> 64"),
    ],
)
def test_what_makes_other_batches_is_refused_with_the_difference_in_one_line(out, other, told):
    state = loader(out).state_dict()
    with pytest.raises(InputError) as error:
        loader(out, **other).load_state_dict(state)
    assert str(error.value) == f"cannot go on with other data or views: {told}; start a new run"


def test_other_data_are_refused(out):
    state = loader(out).state_dict()
    other = make_shards(out.parent, samples_per_shard=4, split="other")
    told = f"shards: '{state['shards']}' -> '{Shards(other).fingerprint}'"
    with pytest.raises(InputError) as error:
        loader(other).load_state_dict(state)
    assert str(error.value) == f"cannot go on with other data or views: {told}; start a new run"


def test_a_state_of_before_there_were_windows_goes_on_without_one(out):
    first = loader(out)
    next(first)
    state = {name: value for name, value in first.state_dict().items() if name != "window"}
    second = loader(out)
    second.load_state_dict(state)
    assert next(second).keys == next(first).keys
    with pytest.raises(InputError, match="window: 0 -> 3"):
        loader(out, window=3).load_state_dict(state)

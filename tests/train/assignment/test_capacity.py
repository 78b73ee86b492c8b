"""Concepts that a step's regions cannot fill are refused with the numbers; what can be filled is not."""

import pytest

from vice.data_specs.errors import InputError
from vice.pipeline.shards import Shards
from vice.train.assignment.capacity import regions_per_picture
from vice.train.assignment.method import METHODS
from vice.train.config import TrainConfig


def config(regions="slic:12", *, size=256, queue_length=0, **assignment):
    views = {"num_views": 2, "size": size, "regions": regions, "resize": (0.5, 1.0)}
    return TrainConfig(
        name="capacity", views=views, assignment={"swav": {"queue_length": queue_length}, **assignment}, global_batch=2
    )


def check(settings, shards, *, num_processes):
    METHODS[settings.assignment.method].check(settings, shards, num_processes=num_processes)


@pytest.mark.parametrize("regions", ["slic:12", "slic:20", "grid:16", "pixel"])
@pytest.mark.parametrize("size", [64, 256])
def test_the_estimate_is_above_what_views_have_and_below_the_layer(scene_shards, regions, size):
    from vice.pipeline.loader.loader import ViewLoader

    shards, settings = Shards(scene_shards["train"]), config(regions, size=size)
    estimate = regions_per_picture(settings, shards)
    loader = ViewLoader(shards, settings.views, global_batch=10, reader="plain")
    assert float(next(loader).num_regions.float().mean()) <= estimate <= 4096
    whole = {"slic:12": 600, "slic:20": 240, "grid:16": 300, "pixel": 4096}[regions]
    assert estimate <= whole * 1.2
    assert size == 256 or regions == "pixel" or estimate < whole / 2


def test_too_many_concepts_are_refused_with_the_numbers(scene_shards):
    shards = Shards(scene_shards["train"])
    told = r"5000 concepts cannot be filled by the \d+ regions of a step \(2 pictures of at most \d+ in all views\)"
    with pytest.raises(InputError, match=told):
        check(config(num_concepts=5000), shards, num_processes=1)
    check(config(num_concepts=100), shards, num_processes=1)


def test_the_queues_of_all_processes_count(scene_shards):
    shards, settings = Shards(scene_shards["train"]), config(num_concepts=5000, queue_length=2000)
    with pytest.raises(InputError, match="and 4000 of the queue"):
        check(settings, shards, num_processes=2)
    check(settings, shards, num_processes=3)


def test_offline_it_is_an_epoch_that_counts(scene_shards):
    shards = Shards(scene_shards["train"])
    check(config(method="kmeans", num_concepts=1000), shards, num_processes=1)
    with pytest.raises(InputError, match=r"regions of an epoch \(10 pictures"):
        check(config(method="kmeans", num_concepts=50_000), shards, num_processes=1)

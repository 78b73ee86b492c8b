"""Faults that pass: repeated with growing delays; those that do not are one line that names the object."""

import pickle
from datetime import timedelta

import pytest
from faulty_server import BY_A_PROXY, CUT, DENIED, DROPPED, SLOW_DOWN, faulty_store
from sharding import blobs, jpeg

from vice.data_specs.dataset import load_dataset
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.part import make_part
from vice.pipeline.prep.plan import KeyedInput
from vice.pipeline.prep.sample import Recipe
from vice.pipeline.prep.tars import Input
from vice.pipeline.storage.base import StoreFailure
from vice.pipeline.storage.objects import ObjectStorage
from vice.pipeline.storage.retries import Retries

NUM_TRIES = 12
QUICK = {
    "max_retries": NUM_TRIES - 1,
    "backoff": {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=2), "base": 2},
    "retry_timeout": timedelta(minutes=1),
}
DATA = bytes(range(256)) * 400


@pytest.fixture
def store():
    with faulty_store() as store:
        store.objects = {"/pictures/x/a": DATA}
        yield store


@pytest.fixture
def delays():
    return []


@pytest.fixture
def storage(store, delays):
    """The folder `x`, known to answer."""
    return ObjectStorage("s3://pictures/x", retry=QUICK, retries=Retries(wait=delays.append), has_answered=True)


@pytest.mark.parametrize("fault", [SLOW_DOWN, (500, b""), (429, b""), DROPPED, CUT, BY_A_PROXY])
def test_reads_outlast_faults_that_pass(store, storage, fault):
    # more of them than the client's default number of retries
    num = 6 if fault == BY_A_PROXY else 11
    store.faults = [fault] * num
    assert storage.read_ranges("a", [(100, 50_000)]) == [DATA[100:50_100]]
    store.faults = [fault] * num
    assert storage.read("a") == DATA
    assert not store.faults


@pytest.mark.parametrize("fault", [SLOW_DOWN, (500, b""), DROPPED, BY_A_PROXY])
def test_writes_outlast_faults_that_pass(store, storage, fault):
    store.faults = [fault] * 5
    storage.write("b", DATA)
    assert store.objects["/pictures/x/b"] == DATA and not store.faults


def test_a_proxys_refusal_is_repeated_for_minutes_and_then_reported_with_the_object(store, storage, delays):
    store.always["/pictures/x/a"] = BY_A_PROXY
    with pytest.raises(StoreFailure, match=r"http://127.0.0.1:\d+/pictures/x/a.*403 Forbidden"):
        storage.read("a")
    assert delays == sorted(delays) and 60 < sum(delays) < 600


def test_a_refusal_of_the_store_itself_is_final(store, storage, delays):
    store.always["/pictures/x/a"] = DENIED
    with pytest.raises(StoreFailure, match="403 Forbidden"):
        storage.read("a")
    assert not delays and store.methods == ["GET"]


def test_a_store_that_never_answered_is_not_waited_for(store, delays):
    storage = ObjectStorage("s3://pictures/x", retry=QUICK, retries=Retries(wait=delays.append))
    store.faults = [BY_A_PROXY]
    with pytest.raises(StoreFailure, match="403"):
        storage.exists("a")
    assert not delays and store.methods == ["HEAD"]
    assert storage.exists("a")
    store.faults = [BY_A_PROXY]
    assert storage.exists("a") and delays == [1]
    in_a_worker = pickle.loads(pickle.dumps(ObjectStorage("s3://pictures/x", retry=QUICK)))
    assert in_a_worker.store.retry_config == QUICK


def test_the_time_ends_the_attempts_of_the_client_and_not_their_number():
    config = ObjectStorage("s3://pictures/x", has_answered=True).store.retry_config
    backoff, seconds, number = config["backoff"], 0.0, 0
    while seconds < config["retry_timeout"].total_seconds():
        seconds += min(
            backoff["init_backoff"].total_seconds() * backoff["base"] ** number, backoff["max_backoff"].total_seconds()
        )
        number += 1
    assert seconds >= 180 and config["max_retries"] > 10 * number


def test_an_object_that_stays_unreadable_is_rejected_by_name(store, storage):
    names = [f"{letter}.jpg" for letter in "abcdef"]
    store.objects = {f"/pictures/x/{name}": jpeg(blobs(40, 40, 0)) for name in names}
    settings = PrepSettings(regions=[RegionLayer.from_text("slic:10")])
    recipe = Recipe(storage, load_dataset("image_folder"), settings)
    inputs = [KeyedInput(Input(name), f"train-{number:08d}") for number, name in enumerate(names)]
    store.always = {"/pictures/x/b.jpg": SLOW_DOWN, "/pictures/x/d.jpg": DENIED}
    rejected = make_part(inputs, recipe).rejected
    assert [(one.source, one.code) for one in rejected] == [("b.jpg", "unreadable"), ("d.jpg", "unreadable")]
    assert "503 Service Unavailable" in rejected[0].reason and "403 Forbidden" in rejected[1].reason

"""Faults of a store that pass are waited for; those that stay end the work, or reject one input, in one line."""

import os
import time

import pytest
from faulty_store import faulty_store
from sharding import blobs, jpeg

from vice.data_specs.dataset import load_dataset
from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import PreparedSample, Recipe, make_sample
from vice.pipeline.prep.tars import Input
from vice.pipeline.storage.base import Refused
from vice.pipeline.storage.objects import ObjectStorage

CONTENT = os.urandom(100_000)


@pytest.fixture
def store(monkeypatch):
    with faulty_store(CONTENT) as server:
        for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "x"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        yield server


def open_storage(patience=4.0):
    return ObjectStorage("s3://bucket/folder", patience)


@pytest.mark.parametrize("faults", [[503] * 5, [500, 429, 502], ["drop"] * 3, ["cut"] * 2, [503, "cut", "drop", 503]])
def test_faults_that_pass_are_waited_for(store, faults):
    storage = open_storage()
    store.faults.extend(faults)
    assert b"".join(storage.chunks("a")) == CONTENT
    store.faults.extend(faults)
    assert storage.read_ranges("a", [(10, 50_000), (99_000, 1000)]) == [CONTENT[10:50_010], CONTENT[99_000:]]
    assert not store.faults


def test_pauses_grow_until_patience_ends_whatever_the_number_of_requests(store):
    storage = open_storage(patience=1.0)
    assert b"".join(storage.chunks("a")) == CONTENT
    store.faults.extend([503] * 1000)
    store.num_requests, began = 0, time.monotonic()
    with pytest.raises(OSError, match="503") as error:
        list(storage.chunks("a"))
    assert "\n" not in str(error.value)
    assert 0.7 < time.monotonic() - began < 10
    assert 6 < store.num_requests < 60


def test_until_it_has_answered_once_a_store_is_waited_for_a_few_seconds_only(store):
    storage = open_storage(patience=600.0)
    assert storage.store is not open_storage(600.0).store
    quick = storage.store
    storage.version("a")
    assert storage.store is not quick
    copy_in_a_task = storage.__reduce__()
    assert copy_in_a_task[0](*copy_in_a_task[1])._answered


def test_one_file_that_is_denied_differs_from_a_store_that_denies_everything(store):
    storage = open_storage()
    for read in (lambda: list(storage.chunks("a")), lambda: storage.read_ranges("a", [(0, 10)])):
        store.denies_lists = False
        store.faults.append(403)
        with pytest.raises(Refused):
            read()
        store.denies_lists = True
        store.faults.append(403)
        with pytest.raises(OSError, match="403") as error:
            read()
        assert not isinstance(error.value, Refused)


def test_a_denied_input_is_rejected_by_name_unless_that_passes_and_a_store_that_fails_ends_the_job(store):
    store.content = jpeg(blobs(64, 48, 0))
    recipe = Recipe(open_storage(patience=1.0), load_dataset("image_folder"), PrepSettings(regions=[]), delays=(0.0,))
    store.faults.append(403)
    assert isinstance(make_sample(Input("a.jpg"), "a", recipe), PreparedSample)
    store.faults.extend([403, 403])
    rejection = Rejection("a.jpg", "read", "the file cannot be read (Permission denied)")
    assert make_sample(Input("a.jpg"), "a", recipe) == rejection
    store.faults.extend([503] * 1000)
    with pytest.raises(WorkError, match=r"a disk or store failed \(.*503.*s3://bucket/folder/a.jpg; run the same"):
        make_sample(Input("a.jpg"), "a", recipe)

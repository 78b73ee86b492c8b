"""Addresses."""

import json
import time
from pathlib import Path

import pytest

from vice.data_specs.errors import InputError
from vice.pipeline.storage.local import LocalStorage
from vice.pipeline.storage.objects import ObjectStorage
from vice.pipeline.storage.opening import open_storage, scheme_of, split_address


def test_paths_are_disks_and_addresses_are_stores(s3, tmp_path):
    assert isinstance(open_storage(tmp_path), LocalStorage)
    assert isinstance(open_storage("a:b//c"), LocalStorage)
    storage = open_storage("s3://pictures/deep/er/")
    assert isinstance(storage, ObjectStorage) and open_storage(storage) is storage
    assert storage.address == "s3://pictures/deep/er"
    assert (storage.store.config["bucket"], storage.store.prefix) == ("pictures", "deep/er")
    assert storage.where("x") == "s3://pictures/deep/er/x"


def test_addresses_that_cannot_be_one():
    for address in ("http://host/x", "az://container/x"):
        with pytest.raises(InputError, match=r"unknown kind of address.*give a folder, s3:// or gs://"):
            open_storage(address)
    for address in ("s3://", "s3:///x", "gs://"):
        with pytest.raises(InputError, match=r"not an address of an object store.*s3://bucket/prefix"):
            open_storage(address)


def test_parts_of_addresses():
    assert scheme_of("S3://x") == "s3" and scheme_of("c:/x") is None and scheme_of("/s3://x") is None
    assert split_address("s3://bucket/a/b.tar") == ("s3://bucket/a", "b.tar")
    assert split_address("b.tar") == (".", "b.tar") and split_address("/b.tar") == ("/", "b.tar")
    assert split_address(str(Path("a") / "b/")) == ("a", "b")


def test_google_addresses_open_and_a_store_that_does_not_answer_is_told(tmp_path, monkeypatch):
    """Against nothing: there is no such server here. The account's file is what emulators are reached with."""
    account = {"gcs_base_url": "http://127.0.0.1:9", "disable_oauth": True, "client_email": "", "private_key": ""}
    (tmp_path / "account.json").write_text(json.dumps(account | {"private_key_id": ""}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
    storage = open_storage("gs://bucket/a b#1/")
    assert (storage.store.config["bucket"], storage.store.prefix) == ("bucket", "a b#1")
    began = time.monotonic()
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9/bucket/a%20b%231") as error:
        storage.read("x")
    assert "\n" not in str(error.value) and time.monotonic() - began < 30

"""What only object stores do: one put an object, markers of folders, failures told in one line."""

import os
import subprocess
import sys
import time

import pytest
from s3_server import BUCKET, s3_server

from vice.data_specs.dataset import load_dataset
from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.job import shard_dataset
from vice.pipeline.shards import Shards
from vice.pipeline.storage.opening import open_storage


def prefix(storage):
    return storage.address.removeprefix(f"s3://{BUCKET}/")


def test_what_is_written_is_what_another_client_reads(s3, bucket):
    bucket.write("a/ü #%41", b"data")
    assert s3.bytes_of(prefix(bucket)) == {"a/ü #%41": b"data"}


def test_an_object_is_put_with_one_request_whatever_its_size(s3, bucket):
    """A put in parts has a tag with the number of parts."""
    bucket.write("large", bytes(30 << 20))
    tag = s3.client.head_object(Bucket=BUCKET, Key=f"{prefix(bucket)}/large")["ETag"]
    assert "-" not in tag


def test_markers_of_folders_are_no_files(s3, bucket):
    for name in ("", "deep/", "deep/er/"):
        s3.put(f"{prefix(bucket)}/{name}", b"")
    for name in ("deep/a", "deep/er/b", "empty"):
        bucket.write(name, b"")
    assert [entry.path for entry in bucket.walk()] == ["deep/a", "deep/er/b", "empty"]


def test_more_files_than_a_page_of_the_store(s3, bucket):
    for number in range(1001):
        s3.put(f"{prefix(bucket)}/{number:04d}", b"")
    assert [entry.path for entry in bucket.walk()] == [f"{number:04d}" for number in range(1001)]
    bucket.write("longer", b"x")
    bucket.delete_folder("")
    assert not list(bucket.walk())


def test_a_bucket_that_is_not_there(s3):
    storage = open_storage("s3://no-such-bucket/x")
    for failing in (lambda: list(storage.walk()), lambda: storage.write("x", b"1"), lambda: storage.read("x")):
        with pytest.raises(OSError, match="404") as error:
            failing()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words", ["shard {here} s3://pictures/out", "info s3://pictures/out", "shard s3://pictures/x {here}/out"]
)
def test_a_store_that_does_not_answer_is_one_line_within_seconds(s3, tmp_path, words):
    (tmp_path / "a.jpg").write_bytes(b"x")
    code = "from vice.pipeline.prep.cli import main; main()"
    command = [sys.executable, "-c", code, *(word.format(here=tmp_path) for word in words.split())]
    began = time.monotonic()
    environment = os.environ | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode in {1, 2} and time.monotonic() - began < 40
    assert len(ended.stderr.splitlines()) == 1 and "127.0.0.1:9" in ended.stderr


def test_a_wrong_key_is_one_line(s3, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    plain = load_dataset("image_folder")
    began = time.monotonic()
    with s3_server(knows_key=False):
        there = "s3://pictures/x"
        for failing in (
            lambda: shard_dataset(tmp_path, there, PrepSettings(), plain),
            lambda: shard_dataset(there, tmp_path / "out", PrepSettings(), plain),
            lambda: Shards(there),
        ):
            with pytest.raises((InputError, WorkError), match="403") as error:
                failing()
            assert "\n" not in str(error.value)
    assert time.monotonic() - began < 20

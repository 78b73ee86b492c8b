"""Shards in a bucket, read by window through a cache: equal batches, each tar fetched once, damage named."""

import secrets
import subprocess
import sys
from collections import Counter

import pytest
import torch
from s3_server import BUCKET
from sharding import shard_blobs

from vice.data_specs.errors import WorkError
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.shards import Shards

VIEWS = ViewSettings(num_views=2, size=32, resize=(0.5, 1.0), regions="slic:10")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Five shards of four pictures and one of three."""
    return shard_blobs(tmp_path_factory.mktemp("remote"), 23, samples_per_shard=4)


@pytest.fixture
def prefix(s3, out):
    """Of the shards in the bucket."""
    prefix = f"cached-{secrets.token_hex(4)}"
    s3.upload(out, prefix)
    return prefix


def loader(out, *, reader="plain", batch=4, **cache):
    return ViewLoader(Shards(out, **cache), VIEWS, global_batch=batch, window=2, reader=reader)


def fetched(s3, prefix):
    """How often each tar and index was asked for."""
    return Counter(name for name in s3.requests("GET", prefix) if name.endswith((".tar", ".idx")))


@pytest.mark.parametrize("reader", ["plain", "dali"])
def test_batches_are_those_of_local_shards_and_each_tar_is_fetched_once(s3, out, prefix, tmp_path, reader):
    local = loader(out, reader=reader)
    remote = loader(f"s3://{BUCKET}/{prefix}", reader=reader, cache=tmp_path)
    for _ in range(12):  # two epochs
        ours, theirs = next(remote), next(local)
        assert ours.keys == theirs.keys and torch.equal(ours.images, theirs.images)
    names = [f"shards/train-{number:06d}.{suffix}" for number in range(6) for suffix in ("tar", "idx")]
    assert fetched(s3, prefix) == dict.fromkeys(names, 1)
    assert s3.requests("GET", prefix).count("manifest.parquet") == 1


ONE_OF_A_GROUP = """
import sys
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.shards import Shards

views = ViewSettings(num_views=2, size=32, resize=(0.5, 1.0), regions="slic:10")
shards = Shards(sys.argv[1], cache=sys.argv[2])
batches = ViewLoader(
    shards, views, global_batch=6, window=2, rank=int(sys.argv[3]), world_size=3, reader="plain"
)
print(*(key for _ in range(8) for key in next(batches).keys), flush=True)
sys.stdin.read()  # a process that ends while it fetches ahead leaves that file to the others, who fetch it again
"""


def test_the_processes_of_a_machine_fetch_each_tar_once_between_them(s3, out, prefix, tmp_path):
    address = f"s3://{BUCKET}/{prefix}"
    commands = [[sys.executable, "-c", ONE_OF_A_GROUP, address, str(tmp_path), str(rank)] for rank in range(3)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for command in commands]
    keys = [process.stdout.readline().split() for process in processes]
    for process in processes:
        process.communicate(timeout=200)
    whole = loader(out, batch=6)
    assert [list(dealt) for dealt in zip(*keys, strict=True)] == [
        batch.keys[place : place + 3] for batch in (next(whole) for _ in range(8)) for place in (0, 3)
    ]
    counts = fetched(s3, prefix)
    assert len(counts) == 12 and set(counts.values()) == {1}


def test_a_small_cache_fetches_again_what_it_had_to_remove(s3, out, prefix, tmp_path):
    limit = 4 * max(path.stat().st_size for path in out.glob("shards/*.tar"))
    local, remote = loader(out), loader(f"s3://{BUCKET}/{prefix}", cache=tmp_path, cache_bytes=limit)
    for _ in range(18):  # three epochs, and three samples of the fourth
        assert next(remote).keys == next(local).keys
    # at most once a window, of which two are at hand in the fourth epoch
    assert 6 < sum(count for name, count in fetched(s3, prefix).items() if name.endswith(".tar")) <= 3 * 6 + 4
    assert 2 <= len(list(tmp_path.rglob("*.tar"))) < 6


def test_a_damaged_object_is_named_and_never_served(s3, out, prefix, tmp_path):
    name = "shards/train-000003.tar"
    data = bytearray((out / name).read_bytes())
    data[1000] ^= 1
    s3.put(f"{prefix}/{name}", bytes(data))
    remote = loader(f"s3://{BUCKET}/{prefix}", cache=tmp_path)
    told = rf"cannot read the shard \(damaged: fetched twice.*\): s3://.*/{name}, key train-\d+; run vice-prep verify"
    with pytest.raises(WorkError, match=told):
        for _ in range(6):
            next(remote)
    assert not list(tmp_path.rglob("train-000003.tar"))

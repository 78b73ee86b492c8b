"""The job on an object store: the same bytes as on a disk, also after a killed run; one writer; errors of one line."""

import secrets
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sharding import bytes_of, entries_of
from typer.testing import CliRunner

from vice.data_specs.errors import InputError, WorkError
from vice.pipeline.prep import cli
from vice.pipeline.prep.job import shard_dataset
from vice.pipeline.shards import Shards
from vice.pipeline.storage import lease as leases
from vice.pipeline.storage.opening import open_storage

_MAIN = """
from vice.pipeline.storage import lease
lease.LEASE_SECONDS, lease.RENEW_SECONDS = 3.0, 0.5
from vice.pipeline.prep.cli import main
main()
"""

pytestmark = pytest.mark.alone


@pytest.fixture
def prefix():
    return secrets.token_hex(4)


def test_any_of_source_and_out_can_lie_on_a_store(s3, source, spec, settings, shards, cluster, tmp_path, prefix):
    remote = s3.upload(source, f"{prefix}/pictures")
    here, there = tmp_path / "out", f"s3://pictures/{prefix}/out"
    shard_dataset(source, there, settings, spec, ray_address=cluster)
    assert s3.bytes_of(f"{prefix}/out") == bytes_of(shards)
    assert shard_dataset(remote, there, settings, spec, ray_address="no.such.cluster:1").was_complete
    shard_dataset(remote, here, settings, spec, ray_address=cluster)
    assert bytes_of(here) == bytes_of(shards)
    shard_dataset(remote, f"{there}-2", settings, spec, ray_address=cluster)
    assert s3.bytes_of(f"{prefix}/out-2") == bytes_of(shards)
    assert len(entries_of(open_storage(there))) == 40
    with pytest.raises(InputError, match=r"settings\.seed: 0 -> 1"):
        shard_dataset(source, there, settings.model_copy(update={"seed": 1}), spec, ray_address=cluster)


def test_shards_on_a_store_are_read_verified_and_drawn(s3, shards, tmp_path, prefix):
    address = s3.upload(shards, prefix)
    ours, theirs = Shards(shards), Shards(address)
    assert ours.record == theirs.record and ours.keys == theirs.keys
    for number in (0, 17, 35):
        one, other = ours.sample(number), theirs.sample(number)
        assert one.meta == other.meta and np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.picture, other.picture)
        assert all(np.array_equal(one.regions[layer], other.regions[layer]) for layer in ours.layers)
    runner = CliRunner()
    for words in (["verify", address, "--deep"], ["info", address, "--json"]):
        local = [str(shards) if word == address else word for word in words]
        result = runner.invoke(cli.app, words)
        assert result.exit_code == 0 and result.stdout == runner.invoke(cli.app, local).stdout
    sheet = tmp_path / "sheet.png"
    assert runner.invoke(cli.app, ["preview", address, "--output", str(sheet), "--samples", "2"]).exit_code == 0
    assert sheet.stat().st_size > 1000
    tar = s3.client.get_object(Bucket="pictures", Key=f"{prefix}/shards/train-000001.tar")["Body"].read()
    s3.put(f"{prefix}/shards/train-000001.tar", tar[:1000])
    with pytest.raises(WorkError, match="cannot read the shard"):
        theirs.sample(theirs.manifest["shard"].to_pylist().index("train-000001.tar") + 1)
    result = runner.invoke(cli.app, ["verify", address])
    assert isinstance(result.exception, WorkError) and "train-000001.tar was changed" in str(result.exception)


def test_a_second_run_is_refused(s3, source, spec, settings, prefix, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.3)
    out = f"s3://pictures/{prefix}"
    with open_storage(out).hold(".vice-prep/lock"), pytest.raises(WorkError, match="another run is writing there"):
        shard_dataset(source, out, settings, spec)
    assert not s3.bytes_of(prefix)


def test_a_killed_run_is_finished_once_its_lease_expired(
    s3, source, spec_page, spec, settings, shards, cluster, prefix, monkeypatch
):
    """The driver is killed once a shard is there."""
    # the killed driver's lease is watched for seconds instead of half a minute; ours is renewed as often as that asks
    monkeypatch.setattr(leases, "LEASE_SECONDS", 6.0)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.5)
    out = f"s3://pictures/{prefix}"
    words = ["shard", source, out, "--dataset", spec_page, "--regions", "slic:10", "--regions", "slico:16"]
    words += ["--samples-per-shard", "8", "--ray-address", cluster]
    driver = subprocess.Popen([sys.executable, "-c", _MAIN, *map(str, words)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while driver.poll() is None and time.monotonic() < deadline:
            if any(entry.path.endswith(".json") for entry in open_storage(f"{out}/shards").walk()):
                break
            time.sleep(0.01)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == -signal.SIGKILL
    assert ".vice-prep/lock" in s3.bytes_of(prefix)
    with pytest.raises(InputError, match="shards are not complete"):
        Shards(out)
    shard_dataset(source, out, settings, spec, ray_address=cluster)
    assert s3.bytes_of(prefix) == bytes_of(shards)


def test_a_wrong_bucket_is_told_in_one_line(s3, source, spec, settings, tmp_path):
    gone = "s3://no-such-bucket/x"
    for failing in (
        lambda: shard_dataset(source, gone, settings, spec),
        lambda: shard_dataset(gone, tmp_path / "out", settings, spec),
        lambda: Shards(gone),
    ):
        with pytest.raises((InputError, WorkError), match="no-such-bucket") as error:
            failing()
        assert "\n" not in str(error.value)

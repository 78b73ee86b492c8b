"""One writer on an object store: a lease that is renewed, expires, is taken over and is given back."""

import time

import obstore
import pytest
from obstore.exceptions import GenericError, PreconditionError

from vice.data_specs.errors import WorkError
from vice.pipeline.storage import lease as leases
from vice.pipeline.storage.opening import open_storage

NAME = ".vice-prep/lock"

pytestmark = pytest.mark.alone


@pytest.fixture
def quick(monkeypatch):
    """Seconds instead of half a minute."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.3)


def dead(bucket):
    """A lease whose holder is gone without giving it back."""
    lease = bucket.hold(NAME)
    lease._version = lease._acquire()
    return lease


def test_a_lease_is_given_back_at_the_end(bucket, quick):
    with bucket.hold(NAME) as lease:
        assert bucket.exists(NAME)
        lease.check()
    assert not list(bucket.walk(hidden=True))


def test_a_second_contender_is_refused_while_it_is_renewed(bucket, quick, capsys):
    with bucket.hold(NAME) as lease:
        began = time.monotonic()
        with pytest.raises(WorkError, match=r"another run is writing there.*wait until it ends"), bucket.hold(NAME):
            pass
        assert time.monotonic() - began < 1.5
        time.sleep(2.0)  # longer than it lasts without being renewed
        lease.check()
    assert capsys.readouterr().err.count("looking whether it still lives") == 1
    with bucket.hold(NAME):
        pass


def test_the_lease_of_a_dead_holder_is_taken_over_once_it_expired(bucket, quick):
    gone = dead(bucket)
    began = time.monotonic()
    with bucket.hold(NAME) as lease:
        assert 1.5 <= time.monotonic() - began < 4
        time.sleep(0.5)
        lease.check()
        with pytest.raises(WorkError, match="the lease was lost"):
            gone.check()
        with pytest.raises(PreconditionError):
            gone._put(gone._version)
    assert not list(bucket.walk(hidden=True))


def test_a_lease_given_back_while_it_is_watched_is_taken(bucket, quick, monkeypatch):
    dead(bucket)
    monkeypatch.setattr(leases.time, "sleep", lambda _: bucket.delete(NAME))
    with bucket.hold(NAME) as lease:
        lease.check()


def test_a_lease_that_another_took_is_noticed_and_not_given_back(bucket, quick):
    lease = bucket.hold(NAME)
    with lease:
        bucket.write(NAME, b"another's")
        time.sleep(0.8)
        with pytest.raises(WorkError, match=r"the lease was lost.*run the same command again"):
            lease.check()
    assert bucket.read(NAME) == b"another's"


def failing_for(lease, seconds, monkeypatch):
    """Let renewals fail, as where a store does not answer."""
    put, until = lease._put, time.monotonic() + seconds

    def failing(*arguments):
        if time.monotonic() < until:
            raise GenericError("no answer")
        return put(*arguments)

    monkeypatch.setattr(lease, "_put", failing)


def test_a_store_that_does_not_answer_for_longer_than_a_lease_lasts_ends_the_work(bucket, quick, monkeypatch):
    with bucket.hold(NAME) as lease:
        failing_for(lease, 10, monkeypatch)
        time.sleep(1.0)
        lease.check()
        time.sleep(1.0)
        with pytest.raises(WorkError, match=r"cannot write there \(no answer\)"):
            lease.check()


def test_a_lease_that_expired_but_that_nobody_took_is_renewed(bucket, quick, monkeypatch):
    with bucket.hold(NAME) as lease:
        monkeypatch.setattr(leases, "RENEW_SECONDS", 60)
        time.sleep(2.2)
        lease.check()
    assert not list(bucket.walk(hidden=True))


def test_a_renewal_that_fails_is_tried_again(bucket, quick, monkeypatch):
    with bucket.hold(NAME) as lease:
        failing_for(lease, 0.7, monkeypatch)
        time.sleep(2.2)
        lease.check()


def test_a_put_whose_first_answer_was_lost_still_counts(bucket, quick, monkeypatch):
    with bucket.hold(NAME) as lease:
        put = obstore.put

        def twice(*args, **options):
            put(*args, **options)
            return put(*args, **options)

        monkeypatch.setattr(leases.obstore, "put", twice)
        time.sleep(2.2)
        lease.check()
    with bucket.hold(NAME) as lease:
        lease.check()


def test_a_bucket_that_cannot_be_written_is_told_in_one_line(s3):
    with pytest.raises(WorkError, match=r"cannot write there.*404.*see that the bucket exists"):
        open_storage("s3://no-such-bucket/x").hold(NAME).__enter__()

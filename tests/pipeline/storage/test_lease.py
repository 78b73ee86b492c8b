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
    monkeypatch.setattr(leases, "PATIENCE_SECONDS", 2.0)


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


def test_a_lease_is_lost_where_the_store_does_not_answer_for_as_long_as_it_lasts(bucket, quick, monkeypatch):
    """Even while a request is still being tried."""
    with bucket.hold(NAME) as lease:
        monkeypatch.setattr(lease, "_put", lambda _: time.sleep(2.5))
        time.sleep(0.5)
        lease.check()
        time.sleep(1.5)
        with pytest.raises(WorkError, match="the lease was lost"):
            lease.check()


def test_a_renewal_that_fails_is_tried_again(bucket, quick, monkeypatch):
    with bucket.hold(NAME) as lease:
        put, failures = lease._put, iter(range(2))

        def failing(mode):
            if next(failures, None) is not None:
                raise GenericError("no answer")
            return put(mode)

        monkeypatch.setattr(lease, "_put", failing)
        time.sleep(2.2)
        lease.check()


def test_a_store_that_answers_again_after_the_lease_expired_keeps_it_for_its_holder(bucket, quick, monkeypatch):
    """Also where the last renewal did arrive and its answer was lost."""
    monkeypatch.setattr(leases, "PATIENCE_SECONDS", 60.0)
    with bucket.hold(NAME) as lease:
        put, until = obstore.put, time.monotonic() + 2.2

        def failing(*args, **options):
            if time.monotonic() > until:
                return put(*args, **options)
            if time.monotonic() > until - 0.5:
                put(*args, **options)
            raise GenericError("no answer")

        monkeypatch.setattr(leases.obstore, "put", failing)
        time.sleep(1.7)
        lease.check()
        assert time.monotonic() > until


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

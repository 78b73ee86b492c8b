"""An iterator read ahead by a thread: the same items, errors at their place, and the thread ends with its user."""

import gc
import subprocess
import sys
import threading

import pytest

from vice.pipeline.loader.read_ahead import ReadAhead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def counting(log, *, until=None):
    """0, 1, 2, ...; raises after `until`; tells when it is closed."""
    try:
        number = 0
        while number != until:
            yield number
            number += 1
        raise LookupError("no more")
    finally:
        log.append("closed")


def test_items_come_in_order_and_the_end_is_the_end():
    ahead = ReadAhead(iter(range(50)), depth=2, name="ahead")
    assert list(ahead) == list(range(50))
    assert list(ahead) == []
    assert not threads()


def test_an_error_is_raised_at_its_place_and_again():
    log = []
    ahead = ReadAhead(counting(log, until=3), depth=1, name="ahead")
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(LookupError, match="no more"):
            next(ahead)
    assert log == ["closed"]


def test_it_reads_no_further_than_its_depth():
    taken = []
    ahead = ReadAhead((taken.append(number) or number for number in range(1000)), depth=3, name="ahead")
    assert next(ahead) == 0
    ahead.close()
    # the one given, three that waited, one in hand; what close takes out makes room for a few more
    assert len(taken) <= 10


@pytest.mark.parametrize("how", ["close", "collect"])
def test_the_thread_ends_and_closes_what_it_reads(how):
    log = []
    ahead = ReadAhead(counting(log), depth=2, name="ahead")
    assert next(ahead) == 0
    if how == "close":
        ahead.close()
    else:
        del ahead
        gc.collect()
    assert log == ["closed"] and not threads()


@pytest.mark.parametrize("last", ["pass", "raise SystemExit(3)"])
def test_a_program_that_stops_in_the_middle_ends_at_once(scene_shards, last):
    program = f"""
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.shards import Shards

loader = ViewLoader(Shards({str(scene_shards["train"])!r}), ViewSettings(num_views=2, size=32), global_batch=2)
next(loader)
{last}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0 if last == "pass" else 3, "")

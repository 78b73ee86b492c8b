"""Fetching ahead: this window and the next, nothing else; errors wait for who needs the file; no thread stays."""

import contextlib
import gc
import subprocess
import sys
import threading
import time

import pytest
import torch
from sharding import shard_blobs

from vice.data_specs.errors import WorkError
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.shards import Shards
from vice.pipeline.storage.cache_folder import CacheFolder
from vice.pipeline.storage.local import LocalStorage


class Remote(LocalStorage):
    """A folder that notes which tars were fetched, and where some cannot be."""

    def __init__(self, folder):
        super().__init__(folder)
        self.tars, self.lost = [], set()

    def chunks(self, name):
        if name.endswith(".tar"):
            self.tars.append(int(name[-10:-4]))
            if self.tars[-1] in self.lost:
                raise OSError("connection lost")
        return super().chunks(name)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Eight shards of three pictures."""
    return shard_blobs(tmp_path_factory.mktemp("ahead"), 24, samples_per_shard=3)


def loader(shards, *, reader="plain", batch=2, window=2, **options):
    views = ViewSettings(num_views=2, size=32, resize=(0.5, 1.0), regions="slic:10")
    return ViewLoader(shards, views, global_batch=batch, window=window, reader=reader, **options)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "vice-fetch-ahead"]


def test_the_window_at_hand_and_the_next_one_are_fetched_each_tar_once(out, tmp_path):
    remote = Remote(out)
    batches = loader(Shards(remote, cache=tmp_path))
    assert remote.tars == []
    windows = [batches.order.shards_of(window) for window in range(4)]
    for window in range(3):
        expected = [shard for shards in windows[: window + 2] for shard in shards]
        # three steps a window; the first one tells which window it is
        next(batches)
        wait_for(lambda expected=expected: len(remote.tars) >= len(expected))
        next(batches), next(batches)
        assert sorted(remote.tars) == sorted(expected)
        assert set(remote.tars[:2]) == set(windows[0])
    list(zip(range(20), batches, strict=False))
    assert sorted(remote.tars) == list(range(8))


@pytest.mark.parametrize("reader", ["plain", "dali"])
@pytest.mark.parametrize("cache_bytes", [None, 1])
def test_batches_are_those_without_a_cache_however_little_it_holds(out, tmp_path, reader, cache_bytes):
    plain = loader(Shards(out), reader=reader, batch=4)
    cached = loader(Shards(out, cache=tmp_path, cache_bytes=cache_bytes), reader=reader, batch=4)
    for _ in range(14):
        ours, theirs = next(cached), next(plain)
        assert ours.keys == theirs.keys and torch.equal(ours.images, theirs.images)


def bytes_in(folder):
    """Of all files, while others come and go."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def test_the_cache_holds_two_windows_and_no_more(out, tmp_path):
    sizes = [path.stat().st_size for path in out.glob("shards/*.tar")]
    limit = 5 * max(sizes)
    batches = loader(Shards(out, cache=tmp_path, cache_bytes=limit))
    for _ in range(30):
        next(batches)
        assert bytes_in(tmp_path) <= limit + max(sizes)
    wait_for(lambda: len(list(tmp_path.rglob("*.tar"))) >= 4)


def test_the_tars_of_two_windows_are_in_use_and_others_are_not(out, tmp_path):
    remote = Remote(out)
    batches = loader(Shards(remote, cache=tmp_path))
    windows = [batches.order.shards_of(window) for window in range(3)]
    for _ in range(4):
        next(batches)
    wait_for(lambda: len(list(tmp_path.rglob("*.tar"))) == 6)
    # whoever shares the folder makes room
    wait_for(lambda: not CacheFolder(tmp_path, 1).make_room() and not list(tmp_path.rglob("*.lock")))
    kept = {int(path.stem[-6:]) for path in tmp_path.rglob("*.tar")}
    assert kept == {*windows[1], *windows[2]}


def test_going_on_elsewhere_fetches_what_is_needed_there(out, tmp_path):
    remote = Remote(out)
    batches = loader(Shards(remote, cache=tmp_path))
    batches.load_state_dict({**batches.state_dict(), "step": 6})
    next(batches)
    expected = set(batches.order.shards_of(2)) | set(batches.order.shards_of(3))
    wait_for(lambda: len(remote.tars) >= 4)
    assert set(remote.tars) == expected


@pytest.mark.parametrize("reader", ["plain", "dali"])
def test_a_tar_that_cannot_be_fetched_is_told_when_it_is_needed_and_others_are_read(out, tmp_path, reader):
    remote = Remote(out)
    batches = loader(Shards(remote, cache=tmp_path), reader=reader)
    lost, other = batches.order.shards_of(1)
    remote.lost = {lost}
    for _ in range(1 if reader == "dali" else 3):  # DALI reads steps ahead
        next(batches)
    wait_for(lambda: other in remote.tars)
    assert lost in remote.tars
    told = rf"cannot read the shard \(connection lost\): .*/train-{lost:06d}\.tar, key train-\d+"
    with pytest.raises(WorkError, match=told):
        for _ in range(4):
            next(batches)


def test_the_thread_ends_with_the_loader(out, tmp_path):
    before = threads()
    batches = loader(Shards(out, cache=tmp_path))
    assert threads() == before
    next(batches)
    [thread] = set(threads()) - set(before)
    assert thread.daemon
    del batches
    gc.collect()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_there_is_no_thread_without_window_or_cache(out, tmp_path):
    before = threads()
    without = [loader(Shards(out)), loader(Shards(out, cache=tmp_path), window=0)]
    for batches in without:
        next(batches)
    assert threads() == before


STUCK = """
import sys, time
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.shards import Shards
from vice.pipeline.storage.cache_folder import CacheFolder
from vice.pipeline.storage.local import LocalStorage

class Stuck(LocalStorage):
    def chunks(self, name):
        if name in later:
            yield b"x"
            print("stuck", flush=True)
            time.sleep(600)
        yield from super().chunks(name)

later = set()
views = ViewSettings(num_views=2, size=32, resize=(0.5, 1.0), regions="slic:10")
batches = ViewLoader(Shards(Stuck(sys.argv[1]), cache=sys.argv[2]), views, global_batch=2, window=2, reader="plain")
later.update(f"shards/train-{shard:06d}.tar" for shard in batches.order.shards_of(1))
next(batches)
time.sleep(float(sys.argv[3]))
print("end", flush=True)
"""


def test_a_process_ends_while_its_thread_still_fetches(out, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", STUCK, str(out), str(tmp_path), "2"], capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(ended.stdout.split()) == {"stuck", "end"}

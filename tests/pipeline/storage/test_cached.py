"""The cache of whole files: fetched once, checked, removed when unused for longest; killed, damaged, full, shared."""

import hashlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from vice.data_specs.errors import InputError
from vice.pipeline.storage import cache_folder
from vice.pipeline.storage.base import EndsEarly
from vice.pipeline.storage.cached import CachedStorage
from vice.pipeline.storage.local import LocalStorage

FILES = {f"shards/{name}.tar": bytes([number]) * 1000 for number, name in enumerate("abcdef")}


class Remote(LocalStorage):
    """A folder that counts what is fetched of it, and whose bytes may come damaged or break off."""

    def __init__(self, folder):
        super().__init__(folder)
        self.fetched, self.spoilt = [], []

    def chunks(self, name):
        self.fetched.append(name)
        spoil = self.spoilt.pop() if self.spoilt else (lambda data: data)
        yield b""
        yield spoil(self.read_ranges(name, [(0, 1000)])[0])


def damage(data):
    return b"\xff" + data[1:]


def break_off(data):
    raise OSError("connection lost")


@pytest.fixture
def remote(tmp_path):
    for name, data in FILES.items():
        LocalStorage(tmp_path / "remote").write(name, data)
    LocalStorage(tmp_path / "remote").write("unlisted", b"as it is")
    return Remote(tmp_path / "remote")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def cached(remote, folder, *, fingerprint="data", max_bytes=None):
    files = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    return CachedStorage(remote, folder, files=files, fingerprint=fingerprint, max_bytes=max_bytes)


def names_in(cache):
    """Files of the cache, `a` for data/shards/a.tar."""
    return "".join(sorted(path.name.removesuffix(".tar") for path in cache.rglob("*.tar*")))


def touch_in_turn(storage, names):
    """Read files so that each was used later than the one before, whatever the clock's resolution."""
    for place, name in enumerate(names):
        storage.read_ranges(f"shards/{name}.tar", [(0, 1)])
        path = storage._cache.folder / f"data/shards/{name}.tar"
        os.utime(path, ns=(place, place))


def test_it_reads_what_the_folder_holds_and_fetches_once(remote, cache):
    storage = cached(remote, cache)
    a = FILES["shards/a.tar"]
    for _ in range(2):
        assert storage.read_ranges("shards/a.tar", [(500, 20), (0, 3), (7, 0)]) == [a[500:520], a[:3], b""]
        assert storage.read("shards/a.tar") == a
        with storage.open("shards/a.tar") as file:
            assert file.seek(990) == 990 and file.read() == a[990:]
    assert remote.fetched == ["shards/a.tar"]
    with pytest.raises(EndsEarly):
        storage.read_ranges("shards/a.tar", [(990, 20)])
    assert cached(remote, cache).read("shards/a.tar") == a and len(remote.fetched) == 1
    assert storage.address == remote.address and list(storage.walk()) == list(remote.walk())


def test_files_that_are_not_listed_are_read_where_they_lie(remote, cache):
    storage = cached(remote, cache)
    assert storage.read_ranges("unlisted", [(0, 2)]) == [b"as"] and storage.exists("unlisted")
    remote.write("unlisted", b"changed")
    with storage.open("unlisted") as file:
        assert file.read() == b"changed"
    assert names_in(cache) == ""


def test_nothing_is_written_through_it(remote, cache):
    storage = cached(remote, cache)
    for write in (storage.delete, storage.delete_folder, storage.hold, lambda name: storage.write(name, b"x")):
        with pytest.raises(OSError, match="not written"):
            write("shards/a.tar")
    assert remote.exists("shards/a.tar")


def test_it_can_be_sent_to_other_processes(remote, cache):
    sent = pickle.loads(pickle.dumps(cached(LocalStorage(remote.folder), cache, max_bytes=3000)))
    for name in FILES:
        assert sent.read(name) == FILES[name]
    assert len(names_in(cache)) == 3


def test_a_file_that_is_missing_is_told_at_once(remote, cache):
    remote.delete("shards/b.tar")
    with pytest.raises(FileNotFoundError):
        cached(remote, cache).read("shards/b.tar")
    assert remote.fetched == ["shards/b.tar"] and names_in(cache) == ""


@pytest.mark.parametrize("spoil", [damage, break_off])
def test_a_spoilt_fetch_is_repeated_once(remote, cache, spoil):
    storage = cached(remote, cache)
    remote.spoilt = [spoil]
    assert storage.read("shards/a.tar") == FILES["shards/a.tar"]
    assert remote.fetched == ["shards/a.tar"] * 2


@pytest.mark.parametrize(("spoil", "told"), [(damage, "damaged: fetched twice"), (break_off, "connection lost")])
def test_a_file_that_stays_spoilt_is_never_served(remote, cache, spoil, told):
    storage = cached(remote, cache)
    remote.spoilt = [spoil, spoil]
    with pytest.raises(OSError, match=told):
        storage.read("shards/a.tar")
    assert len(remote.fetched) == 2 and names_in(cache) == ""
    assert storage.read("shards/a.tar") == FILES["shards/a.tar"]


@pytest.mark.parametrize("kept", [[], FILES], ids=["let go", "kept"])
def test_threads_that_want_a_file_at_once_fetch_it_once(remote, cache, kept):
    storages = [cached(remote, cache) for _ in range(8)]
    for storage in storages:
        storage.keep(kept)
    begin = threading.Barrier(8)

    def read(storage):
        begin.wait()
        return [storage.read(name) for name in FILES]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, storages)) == [list(FILES.values())] * 8
    assert sorted(remote.fetched) == sorted(FILES) and names_in(cache) == "abcdef"


def test_a_file_that_another_finished_just_before_is_not_fetched_again(remote, cache, monkeypatch):
    ours, theirs = cached(remote, cache), cached(remote, cache)
    look = cache_folder._opened

    def look_too_early(path):
        monkeypatch.setattr(cache_folder, "_opened", look)
        theirs.read("shards/a.tar")

    monkeypatch.setattr(cache_folder, "_opened", look_too_early)
    assert ours.read("shards/a.tar") == FILES["shards/a.tar"]
    assert remote.fetched == ["shards/a.tar"]


def test_what_was_not_used_for_longest_goes_first(remote, cache):
    storage = cached(remote, cache, max_bytes=3999)
    touch_in_turn(storage, "abc")
    assert names_in(cache) == "abc"
    touch_in_turn(storage, "cab")
    storage.read("shards/d.tar")
    assert names_in(cache) == "abd"
    assert storage.read("shards/c.tar") == FILES["shards/c.tar"] and names_in(cache) == "bcd"


def test_files_in_use_are_kept_beyond_the_limit_and_go_once_they_are_not(remote, cache):
    ours, theirs = (cached(remote, cache, max_bytes=2000) for _ in range(2))
    ours.keep(["shards/a.tar", "shards/b.tar", "shards/c.tar"])
    touch_in_turn(ours, "abc")
    touch_in_turn(theirs, "def")
    assert names_in(cache) == "abcf"
    ours.keep(["shards/b.tar"])
    touch_in_turn(theirs, "ad")
    assert names_in(cache) == "bd"


def test_a_file_that_is_being_read_is_whole_to_its_end(remote, cache):
    storage = cached(remote, cache, max_bytes=1000)
    with storage.open("shards/a.tar") as file:
        file.read(10)
        storage.read("shards/b.tar")
        (cache / "data/shards/a.tar").unlink()
        assert file.read() == FILES["shards/a.tar"][10:]


def test_fetching_ahead_needs_room_beside_what_is_in_use(remote, cache):
    storage = cached(remote, cache, max_bytes=3000)
    touch_in_turn(storage, "ab")
    storage.keep(["shards/b.tar", "shards/c.tar", "shards/d.tar", "shards/e.tar"])
    assert [storage.fetch_ahead(f"shards/{name}.tar") for name in "bcde"] == [True, True, True, False]
    assert names_in(cache) == "bcd"
    assert storage.read("shards/e.tar") == FILES["shards/e.tar"] and names_in(cache) == "bcde"


def test_data_that_share_a_folder_keep_their_own_files_and_one_limit(remote, cache, tmp_path):
    other = Remote(tmp_path / "other")
    other.write("shards/a.tar", b"o" * 1000)
    storage = cached(remote, cache, max_bytes=1500)
    told = {"shards/a.tar": hashlib.sha256(b"o" * 1000).hexdigest()}
    others = CachedStorage(other, cache, files=told, fingerprint="other", max_bytes=1500)
    for _ in range(2):
        assert storage.read("shards/a.tar") == FILES["shards/a.tar"]
        assert others.read("shards/a.tar") == b"o" * 1000
    assert names_in(cache) == "a"


HALF_WAY = """
import sys, time
from vice.pipeline.storage.cached import CachedStorage
from vice.pipeline.storage.local import LocalStorage

class Slow(LocalStorage):
    def chunks(self, name):
        yield bytes(500)
        print("half", flush=True)
        time.sleep(600)

CachedStorage(Slow(sys.argv[1]), sys.argv[2], files={"shards/b.tar": "x"}, fingerprint="data").read("shards/b.tar")
"""


def test_what_a_killed_process_left_half_written_goes_but_not_what_a_living_one_writes(remote, cache):
    command = [sys.executable, "-c", HALF_WAY, str(remote.folder), str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"half\n"
            cached(remote, cache, max_bytes=1)
            assert (
                names_in(cache) == "b.tar.lockb.tar.part" and (cache / "data/shards/b.tar.part").stat().st_size == 500
            )
        finally:
            process.send_signal(signal.SIGKILL)
    storage = cached(remote, cache)
    assert names_in(cache) == ""
    assert storage.read("shards/b.tar") == FILES["shards/b.tar"] and names_in(cache) == "b"


def test_one_that_waits_for_a_killed_process_fetches_itself(remote, cache):
    storage = cached(remote, cache)
    command = [sys.executable, "-c", HALF_WAY, str(remote.folder), str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process, ThreadPoolExecutor(1) as pool:
        try:
            assert process.stdout.readline() == b"half\n"
            waiting = pool.submit(storage.read, "shards/b.tar")
            assert storage.read("shards/a.tar") == FILES["shards/a.tar"] and not waiting.done()
        finally:
            process.send_signal(signal.SIGKILL)
        assert waiting.result(timeout=60) == FILES["shards/b.tar"]


def test_a_full_disk_is_told_with_the_caches_folder(remote, cache):
    storage = cached(remote, cache)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
        with pytest.raises(OSError, match=f"no room for it in the cache {cache}: "):
            storage.read("shards/a.tar")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert remote.fetched == ["shards/a.tar"] and names_in(cache) == ""


def test_a_folder_that_cannot_be_one_is_refused(remote, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(InputError, match=r"no folder for a cache \(.*\): .*give a folder on a disk"):
            cached(remote, folder)

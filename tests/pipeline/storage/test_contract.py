"""What every folder does, wherever it lies."""

import hashlib
import io
import pickle
import tarfile

import pytest

from vice.pipeline.storage.base import EndsEarly, hashed_file
from vice.pipeline.storage.opening import open_storage

ODD_NAMES = ["#h", "%41", "100%", "a b", "a+b", "a?b*[1]", "e\u0308", "ü/ß.jpg", "日本"]


def paths(storage, **options):
    return [entry.path for entry in storage.walk(**options)]


@pytest.fixture
def filled(storage):
    for name in ("b.jpg", "a/b.jpg", "a-b.jpg", "a.jpg", "a/.x/c.jpg", ".h.jpg", "a/b/c.jpg", "Z.jpg"):
        storage.write(name, name.encode())
    return storage


def test_files_are_walked_in_the_order_of_their_bytes(filled):
    assert paths(filled) == ["Z.jpg", "a-b.jpg", "a.jpg", "a/b.jpg", "a/b/c.jpg", "b.jpg"]
    everything = [path for path in paths(filled, hidden=True) if not path.startswith(".vice-prep")]
    assert everything == sorted([*paths(filled), ".h.jpg", "a/.x/c.jpg"])
    assert [entry.size for entry in filled.walk()] == [len(path) for path in paths(filled)]


def test_a_version_tells_the_size_and_changes_when_the_file_is_written_again(storage):
    storage.write("a", b"first")
    before = storage.version("a")
    storage.write("a", b"other")
    assert before.size == storage.version("a").size == 5 and before != storage.version("a")
    with pytest.raises(FileNotFoundError):
        storage.version("b")


def test_odd_names_are_files_like_others(storage):
    for name in ODD_NAMES:
        storage.write(name, name.encode())
    assert paths(storage) == sorted(ODD_NAMES, key=str.encode)
    for name in ODD_NAMES:
        assert storage.exists(name) and storage.read(name) == name.encode()
        storage.delete(name)
        assert not storage.exists(name)
    assert paths(storage) == []


def test_a_folder_of_an_odd_name_holds_only_its_own_files(storage):
    for name in ("a b#1?x=%41+é", "a b"):
        folder = open_storage(storage.where(name))
        folder.write("file", name.encode())
        assert paths(folder) == ["file"] and folder.read("file") == name.encode()
    assert paths(storage) == ["a b#1?x=%41+é/file", "a b/file"]


def test_a_file_appears_whole_or_not_at_all(storage):
    storage.write("kept", b"before")
    for name in ("new", "kept"):
        with pytest.raises(RuntimeError, match="in between"), storage.create(name) as file:
            file.write(b"half")
            raise RuntimeError("in between")
    assert paths(storage, hidden=True) == ["kept"] and storage.read("kept") == b"before"
    storage.write("kept", b"after")
    assert storage.read("kept") == b"after"


def test_empty_files(storage):
    storage.write("empty", b"")
    assert storage.exists("empty") and storage.read("empty") == b"" and list(storage.walk()) == [("empty", 0)]
    assert storage.read_ranges("empty", [(0, 0)]) == [b""]


def test_ranges_come_whole_or_not_at_all(storage):
    storage.write("file", bytes(range(100)))
    wanted = [(50, 4), (0, 3), (50, 0), (98, 2), (51, 7), (5, 2)]
    assert storage.read_ranges("file", wanted) == [bytes(range(100))[at : at + size] for at, size in wanted]
    assert all(type(part) is bytes for part in storage.read_ranges("file", wanted))
    for beyond in ([(98, 3)], [(100, 1)], [(500, 2)], [(0, 3), (500, 2)]):
        with pytest.raises(EndsEarly):
            storage.read_ranges("file", beyond)


def test_ranges_that_lie_far_apart(storage):
    data = bytes(range(251)) * 16_000
    storage.write("file", data)
    wanted = [(3_900_000, 7), (5, 9), (2_000_000, 1_000_000)]
    assert storage.read_ranges("file", wanted) == [data[at : at + size] for at, size in wanted]


def test_missing_files(storage):
    storage.write("a/file", b"x")
    for name in ("none", "a"):
        assert not storage.exists(name)
    for read in (storage.read, storage.sha256, lambda name: storage.read_ranges(name, [(0, 1)])):
        with pytest.raises(FileNotFoundError) as error:
            read("none")
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError), storage.open("none") as file:
        file.read()
    storage.delete("none")
    storage.delete_folder("none")


def test_deleting_a_folder_leaves_those_with_longer_names(filled):
    filled.delete_folder("a")
    assert paths(filled) == ["Z.jpg", "a-b.jpg", "a.jpg", "b.jpg"]


def test_hashes(storage):
    data = bytes(range(256)) * 40_000  # more than a chunk
    with hashed_file(storage, "file") as file:
        for start in range(0, len(data), 1 << 20):
            file.write(data[start : start + (1 << 20)])
        assert file.tell() == len(data)
    assert file.sha256 == storage.sha256("file") == hashlib.sha256(data).hexdigest()
    assert storage.read("file") == data


def test_an_open_file_can_be_read_in_any_order(storage):
    """As by tarfile, with members beyond the reader's buffer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(4):
            entry = tarfile.TarInfo(f"{number}")
            entry.size = 90_000
            tar.addfile(entry, io.BytesIO(bytes([number]) * 90_000))
    storage.write("x.tar", buffer.getvalue())
    with storage.open("x.tar") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        assert tar.extractfile("3").read() == b"\3" * 90_000
        assert tar.extractfile("1").read() == b"\1" * 90_000


def test_it_can_be_sent_to_other_processes(storage):
    storage.write("file", b"x")
    sent = pickle.loads(pickle.dumps(storage))
    assert sent.address == storage.address and sent.read("file") == b"x"

"""How tars are listed: in few requests, by an index that is never believed blindly, and once for all runs on an OUT."""

import errno
import os
import secrets
import tarfile

import numpy as np
import obstore
import pytest
import webdataset
from archives import Ranges, write_index, write_tar
from sharding import blobs, bytes_of, entries_of, jpeg

from vice.data_specs.dataset import DatasetSpec, load_dataset
from vice.data_specs.errors import WorkError
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep import listing
from vice.pipeline.prep.executors import InProcess
from vice.pipeline.prep.inputs import find_inputs
from vice.pipeline.prep.job import shard_dataset
from vice.pipeline.prep.kept_tars import KeptTars
from vice.pipeline.storage import objects
from vice.pipeline.storage.local import LocalStorage
from vice.pipeline.storage.opening import open_storage

PLAIN = load_dataset("image_folder")
SETTINGS = PrepSettings(regions=[], samples_per_shard=4)


class Counted:
    """The store's client, with the requests for objects that were made through it."""

    def __init__(self):
        self.requests = []

    def __getattr__(self, name):
        def counting(store, *names, **options):
            self.requests += [(name, one) for one in names]
            return getattr(obstore, name)(store, *names, **options)

        return counting


@pytest.fixture
def client(monkeypatch):
    counted = Counted()
    monkeypatch.setattr(objects, "obstore", counted)
    return counted


def contents(source, kept=None, spec=PLAIN):
    inputs = find_inputs(source, spec, kept=kept)
    return [inputs[number]._replace(header_size=0) for number in range(len(inputs))], inputs.fingerprint


@pytest.fixture
def tar(tmp_path):
    members = [(f"s{number:03}.{suffix}", bytes([number]) * 700) for number in range(8) for suffix in ("jpg", "cls")]
    return write_tar(tmp_path / "x.tar", members)


@pytest.mark.parametrize(
    ("count", "size", "requests", "share"), [(2000, 4000, 4, 1), (12, 3 << 20, 14, 0.1), (60, 600_000, 10, 1)]
)
def test_headers_are_read_in_pieces_or_one_by_one_where_they_lie_far_apart(tmp_path, count, size, requests, share):
    storage = Ranges(write_tar(tmp_path / "x.tar", [(f"{number}.jpg", bytes(size)) for number in range(count)]))
    assert [one.name for one in storage.headers()] == [f"{number}.jpg" for number in range(count)]
    assert len(storage.read) <= requests
    assert sum(size for _, size in storage.read) <= share * len(storage.data)


def test_a_tar_on_a_store_takes_a_handful_of_requests_and_a_resumed_run_one(s3, client, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_tar(tmp_path / f"in/{name}.tar", [(f"{number}.jpg", secrets.token_bytes(5000)) for number in range(200)])
    remote, out = s3.upload(tmp_path / "in", secrets.token_hex(4)), open_storage(tmp_path / "out")
    kept = KeptTars(out)
    first = contents(remote, kept)
    kept.save()
    assert len(first[0]) == 400
    ranges = [("get_range", "a.tar")] * 2
    assert sorted(one for one in client.requests if "a." in one[1]) == [("get", "a.idx"), *ranges, ("head", "a.tar")]
    client.requests.clear()
    assert contents(remote, KeptTars(out)) == first
    assert sorted(client.requests) == [("head", "a.tar"), ("head", "b.tar")]


@pytest.mark.parametrize("header_size", [512, 1536])
def test_an_index_replaces_the_headers(s3, client, tar, monkeypatch, header_size):
    if header_size > 512:
        tar = as_webdataset_writes(tar)
    before = contents(tar)
    write_index(tar)
    monkeypatch.setattr("vice.pipeline.prep.tar_members.read_headers", None)
    assert contents(tar) == before
    assert find_inputs(tar, PLAIN).tars.header_sizes == {0: header_size}
    remote = s3.upload(tar.parent, secrets.token_hex(4))
    assert contents(f"{remote}/x.tar")[0] == before[0]
    assert [one for one in client.requests if one[0] != "head"] == [("get", "x.idx"), ("get_range", "x.tar")]


def as_webdataset_writes(tar):
    """With a time of fractions of a second in a further header of each member."""
    with webdataset.TarWriter(str(tar)) as writer:
        for number in range(8):
            writer.write({"__key__": f"s{number:03}", "jpg": bytes([number]) * 700, "cls": b"3"})
    return tar


def outdated(tar):
    write_index(tar)
    with tarfile.open(tar, "a") as archive:
        archive.addfile(tarfile.TarInfo("later.jpg"))


def shorter(tar):
    write_index(tar)
    with tar.open("r+b") as file:
        file.truncate(16 * 1536)


def with_a_link(tar):
    with tarfile.open(tar, "a") as archive:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "s000.jpg"
        archive.addfile(link)
    write_index(tar)


def with_a_long_name(tar):
    write_tar(tar, [("a.jpg", b"a"), ("x" * 200 + ".jpg", b"b")])
    write_index(tar)


def with_a_folder_before_each(tar):
    members = [one for number in range(4) for one in ((f"d{number}", tarfile.DIRTYPE, ""), (f"d{number}.jpg", b"x"))]
    write_tar(tar, members)
    write_index(tar)


def of_another_version(tar):
    write_index(tar, "v1.1")


def edited(old, new):
    def edit(tar):
        write_index(tar)
        index = tar.with_suffix(".idx")
        index.write_text(index.read_text().replace(old, new))

    return edit


def garbage(tar):
    tar.with_suffix(".idx").write_bytes(secrets.token_bytes(1000))


@pytest.mark.parametrize(
    "damage",
    [
        outdated,
        shorter,
        with_a_link,
        with_a_long_name,
        with_a_folder_before_each,
        of_another_version,
        garbage,
        edited("s007.cls", "s008.cls"),
        edited("700 s003.jpg", "1700 s003.jpg"),
        edited(" 700 s003.jpg", " 700"),
        edited("jpg 512 ", "jpg -1024 "),
    ],
)
def test_an_index_that_does_not_account_for_the_whole_tar_is_not_used(tar, damage):
    damage(tar)
    inputs = find_inputs(tar, PLAIN)
    assert not inputs.tars.header_sizes
    found = contents(tar)
    tar.with_suffix(".idx").unlink()
    assert contents(tar) == found


@pytest.mark.parametrize("by_webdataset", [False, True])
def test_a_wrong_index_that_fits_is_found_when_the_member_is_read(tmp_path, by_webdataset):
    tar = tmp_path / "x.tar"
    if by_webdataset:
        with webdataset.TarWriter(str(tar)) as writer:
            for number in range(5):
                writer.write({"__key__": str(number), "jpg": jpeg(blobs(40, 40, 1))})
    else:
        write_tar(tar, [(f"{number}.jpg", jpeg(blobs(40, 40, 1))) for number in range(5)])
    write_index(tar)
    assert find_inputs(tar, PLAIN).tars.header_sizes
    index = tar.with_suffix(".idx")
    right = index.read_text()
    index.write_text(right.replace("2.jpg", "9.jpg"))
    with pytest.raises(WorkError, match=r"the index next to the tar is wrong: .* 9\.jpg begins at .*x\.idx"):
        shard_dataset(tar, tmp_path / "wrong", SETTINGS, PLAIN, workers=0)
    index.write_text(right)
    shard_dataset(tar, tmp_path / "indexed", SETTINGS, PLAIN, workers=0)
    index.unlink()
    shard_dataset(tar, tmp_path / "plain", SETTINGS, PLAIN, workers=0)
    assert bytes_of(tmp_path / "indexed") == bytes_of(tmp_path / "plain")
    assert len(entries_of(open_storage(tmp_path / "plain"))) == 5


@pytest.fixture
def listed(monkeypatch):
    """Names of the tars that are listed rather than taken from what was kept."""
    names, read_members = [], listing.read_members

    def counting(storage, tar, version):
        names.append(tar)
        return read_members(storage, tar, version)

    monkeypatch.setattr(listing, "read_members", counting)
    return names


def test_kept_listings_are_those_that_were_read_and_count_for_unchanged_tars_alone(tmp_path, listed):
    source, out = tmp_path / "in", open_storage(tmp_path / "out")
    source.mkdir()
    links = [("k.jpg", b"1"), ("k.jpg", b"2"), ("gone.jpg", tarfile.SYMTYPE, os.fsdecode(b"/\xff"))]
    write_tar(source / "a.tar", [("s.jpg", b"1"), ("s.seg.png", b"2"), ("t.jpg", b"3")])
    write_tar(source / "b.tar", links)
    write_tar(source / os.fsdecode(b"c\xff.tar"), [(os.fsdecode(b"\xe9.jpg"), b"1")])
    (source / "d.tar").write_bytes((source / "a.tar").read_bytes()[:1200])
    (source / "e.jpg").touch()
    spec = DatasetSpec(name="x", title="x", pictures=r"^(?P<id>[^.]+)\.jpg$", labels="{id}.seg.png", classes=["a"])
    kept = KeptTars(out)
    first = contents(source, kept, spec)
    kept.save()
    assert len(listed) == 4 and [one.label for one in first[0][:2]] == [(1536, 1), None]
    assert contents(source, KeptTars(out), spec) == first
    assert len(listed) == 4
    os.utime(source / "b.tar", (1, 1))
    assert contents(source, KeptTars(out), spec) == first
    assert listed[4:] == ["b.tar"]
    contents(source, KeptTars(out), PLAIN)
    assert len(listed) == 9


def test_a_run_that_was_stopped_does_not_list_again(tar, tmp_path, listed, monkeypatch):
    write_tar(tar, [(f"{number}.jpg", jpeg(blobs(40, 40, number))) for number in range(6)])
    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(InProcess, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        shard_dataset(tar, out, SETTINGS, PLAIN, workers=0)
    shard_dataset(tar, out, SETTINGS, PLAIN, workers=0)
    assert listed == ["x.tar"] and not (out / ".vice-prep").exists()
    shard_dataset(tar, tmp_path / "other", SETTINGS, PLAIN, workers=0)
    assert bytes_of(out) == bytes_of(tmp_path / "other")


def test_tars_are_listed_in_order_among_other_files(tmp_path):
    for number in range(100):
        if number % 3:
            (tmp_path / f"{number:03}.jpg").touch()
        else:
            write_tar(tmp_path / f"{number:03}.tar", [("a.jpg", b"1")])
    inputs = find_inputs(tmp_path, PLAIN)
    names = [f"{number:03}" + (".jpg" if number % 3 else ".tar/a.jpg") for number in range(100)]
    assert [inputs[number].path for number in range(100)] == names
    assert np.count_nonzero(inputs.tars.tar >= 0) == 34


def test_a_tar_that_cannot_be_opened_never_blocks_the_rest(tmp_path, monkeypatch):
    write_tar(tmp_path / "good.tar", [("a.jpg", b"1")])
    write_tar(tmp_path / "shut.tar", [("a.jpg", b"1")])
    (tmp_path / "self.tar").symlink_to("self.tar")
    (tmp_path / "nowhere.tar").symlink_to("gone")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "list.txt").write_text("good.tar\nshut.tar\nself.tar\nnowhere.tar\nfolder.tar\ngood.tar/x.tar\n")
    version = LocalStorage.version

    def refusing(storage, name):
        if name == "shut.tar":
            raise PermissionError(errno.EACCES, "Permission denied")
        return version(storage, name)

    monkeypatch.setattr(LocalStorage, "version", refusing)
    inputs, _ = contents(tmp_path / "list.txt")
    assert {one.path: one.problem for one in inputs} == {
        "folder.tar": "the tar cannot be read (Is a directory)",
        "good.tar/a.jpg": None,
        "good.tar/x.tar": "the tar cannot be read (Not a directory)",
        "nowhere.tar": "the tar is missing",
        "self.tar": "the tar cannot be read (Too many levels of symbolic links)",
        "shut.tar": "the tar cannot be read (Permission denied)",
    }

"""Tars as sources: every sample once, in windows, whole or damaged, on disks and stores."""

import io
import secrets
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from sharding import blobs, entries_of, jpeg, png, shard_serially

from vice.data_specs.dataset import DatasetSpec, load_dataset
from vice.data_specs.errors import InputError
from vice.data_specs.shard_format import REJECTED_FILE, PrepSettings
from vice.pipeline.prep.inputs import find_inputs, shuffled
from vice.pipeline.prep.plan import make_plan
from vice.pipeline.shards import Shards
from vice.pipeline.storage.opening import open_storage

PLAIN = load_dataset("image_folder")
SPEC = DatasetSpec(
    name="wds", title="x", pictures=r"^(?P<id>[^.]+)\.jpg$", labels="{id}.seg.png", classes=["upper", "lower"]
)
SETTINGS = PrepSettings(samples_per_shard=4)


def labels_of(number):
    return np.full((40, 48), number % 2, np.uint8)


def write_tars(folder, num_tars, samples_per_tar, *, start=0):
    folder.mkdir(exist_ok=True)
    for tar in range(num_tars):
        with webdataset.TarWriter(str(folder / f"t{tar:03d}.tar")) as writer:
            for place in range(samples_per_tar):
                number = start + tar * samples_per_tar + place
                sample = {"__key__": f"some/folder/s{number:04d}", "cls": b"3", "seg.png": png(labels_of(number))}
                writer.write(sample | {"jpg": jpeg(blobs(48, 40, number))})
    return folder


@pytest.fixture
def tars(tmp_path):
    return write_tars(tmp_path / "tars", 2, 4)


def rejected(out):
    return {row["source"]: row["reason"] for row in pq.read_table(out / REJECTED_FILE).to_pylist()}


def expected(num_tars=2, per_tar=4):
    return [f"t{n // per_tar:03d}.tar/some/folder/s{n:04d}.jpg" for n in range(num_tars * per_tar)]


def arrays(out):
    """By the file's own name: picture, regions, labels."""
    found = {}
    shards = Shards(out)
    for number, source in enumerate(shards.manifest["source"].to_pylist()):
        sample = shards.sample(number)
        found[source.rpartition("/")[2]] = (sample.picture, sample.regions["slic20"], sample.labels)
    return found


def assert_same_arrays(one, other):
    one, other = arrays(one), arrays(other)
    assert one.keys() == other.keys() and one
    for name in one:
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(one[name], other[name], strict=True))


def test_samples_of_tars_are_those_of_the_same_files_in_a_folder(tars, tmp_path):
    for tar in tars.iterdir():
        with tarfile.open(tar) as archive:
            archive.extractall(tmp_path / "files", filter="data")
    for path in (tmp_path / "files").rglob("*.cls"):
        path.unlink()
    shard_serially(tars, tmp_path / "out", SETTINGS, SPEC)
    shard_serially(tmp_path / "files", tmp_path / "plain", SETTINGS, SPEC)
    assert entries_of(open_storage(tmp_path / "out")) == expected()
    assert Shards(tmp_path / "out").has_labels
    assert_same_arrays(tmp_path / "out", tmp_path / "plain")


def test_one_tar_a_glob_and_a_list_of_tars(s3, tars, tmp_path):
    (tars / "list.txt").write_text("t000.tar\nt001.tar\n")
    remote = s3.upload(tars, secrets.token_hex(4))
    for place in (tars, remote):
        for source, found in (("t001.tar", expected()[4:]), ("*.tar", expected()), ("list.txt", expected())):
            inputs = find_inputs(f"{place}/{source}", SPEC)
            assert [inputs[number].path for number in range(len(inputs))] == found
            assert inputs.tars.places.min() > 0


def test_tars_on_a_store_give_the_same_bytes(s3, tars, tmp_path):
    remote = s3.upload(tars, secrets.token_hex(4))
    ours = shard_serially(f"{tars}", tmp_path / "disk", SETTINGS, SPEC)
    assert shard_serially(remote, tmp_path / "store", SETTINGS, SPEC) == ours
    assert entries_of(open_storage(tmp_path / "store")) == expected()


def test_our_own_shards_can_be_sharded_again(tars, tmp_path):
    ours = SPEC.model_copy(update={"labels": "{id}.labels.png", "beside": r".*\.(slic20|density)\.png$"})
    shard_serially(tars, tmp_path / "out", SETTINGS, SPEC)
    again = DatasetSpec.model_validate(ours.model_dump() | {"ignore": [65535]})
    shard_serially(str(tmp_path / "out/shards/*.tar"), tmp_path / "again", SETTINGS, again)
    record = Shards(tmp_path / "again").record
    assert (record.num_samples, record.num_rejected) == (8, 0)
    first, second = Shards(tmp_path / "out"), Shards(tmp_path / "again")
    by_key = {key: number for number, key in enumerate(first.keys)}
    for number, source in enumerate(second.manifest["source"].to_pylist()):
        one, other = first.sample(by_key[source.rpartition("/")[2][:-4]]), second.sample(number)
        assert np.array_equal(one.picture, other.picture) and np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.regions["slic20"], other.regions["slic20"])


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_hidden_files_and_samples_without_pictures(tmp_path, tar_format):
    long = "deep/" * 30 + "x" * 120 + ".jpg"
    picture = jpeg(blobs(48, 40, 1))
    files = {long: picture, "./a.jpg": picture, "a.txt": b"x", "a.JPEG": picture, "b.txt": b"x", "b.json": b"{}"}
    with tarfile.open(tmp_path / "x.tar", "w", format=tar_format) as tar:
        for name, data in (files | {".hidden.jpg": picture, "d/._a.jpg": b"x", "ü.jpg": picture}).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
        tar.addfile(link)
    shard_serially(tmp_path / "x.tar", tmp_path / "out", PrepSettings())
    found = ("a.JPEG", "a.jpg", "b.json", "b.txt", "link.jpg", long, "ü.jpg")
    names = sorted(f"x.tar/{name}" for name in found)
    assert entries_of(open_storage(tmp_path / "out")) == names
    assert list(rejected(tmp_path / "out")) == ["x.tar/b.json", "x.tar/b.txt"]


def damaged(tar, how):
    data = bytearray(tar.read_bytes())
    with tarfile.open(tar) as archive:
        members = {entry.name: entry for entry in archive}
    third = members["some/folder/s0002.jpg"]
    if how == "in a member":
        return data[: third.offset_data + 100], 3
    if how == "between members":
        return data[: third.offset], 2
    if how == "in a header":
        return data[: third.offset + 100], 2
    data[third.offset + 150] ^= 0xFF  # its checksum
    return data, 2


@pytest.mark.parametrize("on_store", [False, True], ids=["disk", "s3"])
@pytest.mark.parametrize("how", ["in a member", "between members", "in a header", "header changed"])
def test_of_a_damaged_tar_what_can_be_read_is_in_and_the_tar_is_rejected(s3, tars, tmp_path, how, on_store):
    data, num_found = damaged(tars / "t000.tar", how)
    (tars / "t000.tar").write_bytes(data)
    source = s3.upload(tars, secrets.token_hex(4)) if on_store else tars
    shard_serially(source, tmp_path / "out", SETTINGS, SPEC)
    listed = entries_of(open_storage(tmp_path / "out"))
    found = [path for path in listed if path.startswith("t000.tar/")]
    assert set(listed) == {"t000.tar", *found, *expected()[4:]} and set(found) >= set(expected()[: min(num_found, 2)])
    reasons = rejected(tmp_path / "out")
    assert "the tar cannot be read beyond its first" in reasons["t000.tar"]
    assert set(expected()[:2]) & reasons.keys() == set()
    if how == "in a member":
        assert "breaks off with its tar" in reasons[expected()[2]]


def test_empty_tars_are_rejected_by_name(tars, tmp_path):
    (tars / "none.tar").touch()
    tarfile.open(tars / "nothing.tar", "w").close()
    (tars / "text.tar").write_text("no tar" * 1000)
    shard_serially(tars, tmp_path / "out", SETTINGS, SPEC)
    assert entries_of(open_storage(tmp_path / "out")) == sorted([*expected(), "none.tar", "nothing.tar", "text.tar"])
    reasons = rejected(tmp_path / "out")
    assert reasons["nothing.tar"] == "the tar holds no files" and "empty file" in reasons["none.tar"]


def test_a_store_that_fails_does_not_make_a_bad_tar(tars, monkeypatch):
    def failing(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr("vice.pipeline.storage.local.LocalStorage.open", failing)
    with pytest.raises(InputError, match=r"a disk or store failed \(the disk is gone\)"):
        find_inputs(tars, SPEC)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_shard_reads_from_the_tars_of_two_windows_at_most(tmp_path, window):
    """Where a window holds at least a shard's samples. Every sample is in one shard, in an order of the seed alone."""
    many = tmp_path / "many"
    many.mkdir()
    for tar in range(12):
        with webdataset.TarWriter(str(many / f"t{tar:03d}.tar")) as writer:
            for place in range(8):
                writer.write({"__key__": f"s{tar}-{place}", "jpg": b"x"})
    plan = make_plan(many, PrepSettings(samples_per_shard=8, tar_window=window), PLAIN)
    shards = [[one.input for one in plan.inputs_of(number)] for number in plan.numbers]
    assert all(len({one.tar for one in shard}) <= 2 * window for shard in shards)
    assert len({one.path for shard in shards for one in shard}) == 96
    if window > 1:
        assert max(len({one.tar for one in shard}) for shard in shards) > 1
    inputs = find_inputs(many, PLAIN)
    order = shuffled(inputs, 0, tar_window=window).tolist()
    assert order == plan.order.tolist() != shuffled(inputs, 1, tar_window=window).tolist()

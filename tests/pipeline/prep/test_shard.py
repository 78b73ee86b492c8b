"""A shard is a pure function of its samples: a plain USTAR, an index that DALI reads, a record that names both."""

import hashlib
import io
import tarfile

import pytest

from vice.data_specs.shard_format import ShardRecord, parse_index
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import PreparedSample
from vice.pipeline.prep.shard import ROWS_FOLDER, build_part, check_shard, read_rows, write_shard
from vice.pipeline.storage.local import LocalStorage


def sample(number, **members):
    contents = {name.replace("__", "."): data for name, data in members.items()}
    facts = dict.fromkeys(("source", "source_sha256", "group"), "x")
    sizes = dict.fromkeys(("width", "height", "original_width", "original_height"), 9)
    maps = {"num_regions": {"slic20": 3}, "member_bytes": {name: len(data) for name, data in contents.items()}}
    row = {"key": f"train-{number:08d}", **facts, **sizes, **maps, "has_labels": False}
    return PreparedSample(f"train-{number:08d}", contents, row)


RESULTS = [
    sample(0, jpg=b"a" * 700, slic20__png=b"b" * 512, json=b""),
    Rejection("bad.jpg", "picture", "no picture in a known format", "decode"),
    sample(2, jpg=b"c", slic20__png=b"d" * 513, json=b"{}"),
]


def written(folder, results, sizes=(1,)):
    """Write a shard in parts of these sizes; the bytes of its files by suffix."""
    parts, start = [], 0
    for size in (*sizes, len(results)):
        parts.append(build_part(results[start : start + size]))
        start += size
    write_shard(LocalStorage(folder), "train-000000", iter(parts), "fingerprint")
    return {path.suffix[1:]: path.read_bytes() for path in (folder / "shards").iterdir()}


def test_the_tar_holds_the_members_and_nothing_of_where_it_was_made(tmp_path):
    data = written(tmp_path, RESULTS)["tar"]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        entries = tar.getmembers()
        assert [entry.name for entry in entries] == [
            "train-00000000.jpg",
            "train-00000000.slic20.png",
            "train-00000000.json",
            "train-00000002.jpg",
            "train-00000002.slic20.png",
            "train-00000002.json",
        ]
        assert {(e.mtime, e.uid, e.gid, e.uname, e.gname, e.mode) for e in entries} == {(0, 0, 0, "", "", 0o644)}
        contents = [data for result in RESULTS if result != RESULTS[1] for data in result.members.values()]
        assert [tar.extractfile(entry).read() for entry in entries] == contents
    assert data[257:265] == b"ustar\x0000" and len(data) % tarfile.RECORDSIZE == 0


def test_the_tar_is_what_tarfile_writes(tmp_path):
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for result in (RESULTS[0], RESULTS[2]):
            for extension, data in result.members.items():
                entry = tarfile.TarInfo(f"{result.key}.{extension}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    assert written(tmp_path, RESULTS)["tar"] == whole.getvalue()


@pytest.mark.parametrize("sizes", [(), (2,), (1, 1), (1, 0, 1)])
def test_the_bytes_do_not_depend_on_the_parts(tmp_path, sizes):
    assert written(tmp_path / "parts", RESULTS, sizes) == written(tmp_path / "ones", RESULTS, (1, 1))


def test_the_index_finds_every_member(tmp_path):
    files = written(tmp_path, RESULTS)
    index = parse_index(files["idx"].decode("ascii"))
    found = [{m: files["tar"][offset : offset + size] for m, (offset, size) in members.items()} for members in index]
    assert found == [RESULTS[0].members, RESULTS[2].members]
    names = [word for line in files["idx"].decode().splitlines()[1:] for word in line.split(" ")[3::4]]
    assert names[1] == "train-00000000.slic20.png"


def test_record_and_rows_tell_what_is_in_it(tmp_path):
    files = written(tmp_path, RESULTS)
    record = ShardRecord.model_validate_json(files["json"])
    assert record == ShardRecord(
        tar_sha256=hashlib.sha256(files["tar"]).hexdigest(),
        index_sha256=hashlib.sha256(files["idx"]).hexdigest(),
        num_samples=2,
        num_rejected=1,
        settings_fingerprint="fingerprint",
    )
    samples, rejected, _ = read_rows(LocalStorage(tmp_path), "train-000000")
    assert samples["key"].to_pylist() == ["train-00000000", "train-00000002"]
    assert samples["index"].to_pylist() == [0, 1]
    assert samples["shard"].to_pylist() == ["train-000000.tar"] * 2
    assert rejected.to_pylist() == [RESULTS[1]._asdict()]
    found = check_shard(LocalStorage(tmp_path), "train-000000", "fingerprint")
    assert found.files == {f"shards/train-000000.{s}": hashlib.sha256(files[s]).hexdigest() for s in files}
    written_files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*") if path.is_file())
    assert written_files == [f"{ROWS_FOLDER}/train-000000.parquet", *sorted(found.files)]


def test_a_shard_without_samples_has_a_record_only(tmp_path):
    """DALI refuses an index of no samples and a tar without members."""
    assert list(written(tmp_path, RESULTS[1:2])) == ["json"]

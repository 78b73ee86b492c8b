"""A shard is a pure function of its samples: a plain USTAR, an index that DALI reads, a record that names both."""

import hashlib
import io
import tarfile

import pytest

from vice.data_specs.shard_format import ShardRecord
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import PreparedSample
from vice.pipeline.prep.shard import build_shard, read_rows, write_shard, write_whole
from vice.pipeline.shards import parse_index


def sample(number, **members):
    contents = {name.replace("__", "."): data for name, data in members.items()}
    return PreparedSample(f"train-{number:08d}", contents, {"key": f"train-{number:08d}"})


RESULTS = [
    sample(0, jpg=b"a" * 700, slic20__png=b"b" * 512, json=b""),
    Rejection("bad.jpg", "picture", "no picture in a known format"),
    sample(2, jpg=b"c", slic20__png=b"d" * 513, json=b"{}"),
]


def test_the_tar_holds_the_members_and_nothing_of_where_it_was_made():
    shard = build_shard("train-000000", RESULTS, "fingerprint")
    assert shard == build_shard("train-000000", RESULTS, "fingerprint")
    with tarfile.open(fileobj=io.BytesIO(shard.tar)) as tar:
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
    assert shard.tar[257:265] == b"ustar\x0000"


def test_the_index_finds_every_member():
    shard = build_shard("train-000000", RESULTS, "fingerprint")
    index = parse_index(shard.index.decode("ascii"))
    found = [{m: shard.tar[offset : offset + size] for m, (offset, size) in members.items()} for members in index]
    assert found == [RESULTS[0].members, RESULTS[2].members]
    names = [word for line in shard.index.decode().splitlines()[1:] for word in line.split(" ")[3::4]]
    assert names[1] == "train-00000000.slic20.png"


def test_record_and_rows_tell_what_is_in_it(tmp_path):
    shard = build_shard("train-000000", RESULTS, "fingerprint")
    record = ShardRecord.model_validate_json(shard.record)
    assert record == ShardRecord(
        tar_sha256=hashlib.sha256(shard.tar).hexdigest(),
        index_sha256=hashlib.sha256(shard.index).hexdigest(),
        num_samples=2,
        num_rejected=1,
        settings_fingerprint="fingerprint",
    )
    (tmp_path / "rows").mkdir()
    write_shard(tmp_path, tmp_path / "rows", "train-000000", shard)
    assert read_rows(tmp_path / "rows/train-000000.json") == {
        "samples": [
            {"key": "train-00000000", "shard": "train-000000.tar", "index": 0},
            {"key": "train-00000002", "shard": "train-000000.tar", "index": 1},
        ],
        "rejected": [RESULTS[1]._asdict()],
    }
    written = sorted(path.name for path in tmp_path.rglob("*.*"))
    assert written == ["train-000000.idx", "train-000000.json", "train-000000.json", "train-000000.tar"]


def test_a_shard_without_samples_has_a_record_only(tmp_path):
    """DALI refuses an index of no samples and a tar without members."""
    shard = build_shard("train-000000", RESULTS[1:2], "fingerprint")
    (tmp_path / "rows").mkdir()
    write_shard(tmp_path, tmp_path / "rows", "train-000000", shard)
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["train-000000.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    (tmp_path / "aside").mkdir()
    write_whole(tmp_path / "file", b"old", temporary=tmp_path / "aside")
    with pytest.raises(TypeError):
        write_whole(tmp_path / "file", "no bytes", temporary=tmp_path / "aside")
    assert (tmp_path / "file").read_bytes() == b"old"

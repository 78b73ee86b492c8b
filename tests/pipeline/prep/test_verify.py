"""Whatever is changed, lost or added in OUT is found, and named; from hashes, and from what the files say."""

import json
import re

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.shard_format import DATASET_FILE, MANIFEST_FILE, REJECTED_FILE, REJECTED_SCHEMA, DatasetRecord
from vice.pipeline.prep.earlier import Earlier
from vice.pipeline.prep.info import facts
from vice.pipeline.prep.tables import commonest_reasons, parquet_bytes, rejected_table
from vice.pipeline.prep.verify import verify_shards
from vice.pipeline.shards import Shards
from vice.pipeline.storage.local import LocalStorage
from vice.pipeline.storage.opening import open_storage


def test_a_good_out_is_good(shards):
    assert verify_shards(shards).startswith("good: 36 samples in 5 shards, hashes")
    assert "every member decoded" in verify_shards(shards, deep=True)


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_out_holds_exactly_the_files_of_the_format(shards):
    names = [f"shards/train-{number:06d}.{suffix}" for number in range(5) for suffix in ("idx", "json", "tar")]
    assert files_of(shards) == sorted([DATASET_FILE, MANIFEST_FILE, "rejected.parquet", *names])


def test_a_flipped_byte_of_any_file_is_found(copied):
    for name in files_of(copied):
        path = copied / name
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :])
        with pytest.raises((WorkError, InputError), match=re.escape(name)):
            verify_shards(copied)
        path.write_bytes(good)
    verify_shards(copied)


def test_any_flipped_bit_is_found(copied):
    """300 bits drawn over all bytes of all files."""
    draws = np.random.Generator(np.random.Philox(key=3))
    names = files_of(copied)
    sizes = np.array([(copied / name).stat().st_size for name in names])
    for place in draws.integers(sizes.sum(), size=300):
        number = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
        path, byte = copied / names[number], int(place - sizes[:number].sum())
        good = path.read_bytes()
        path.write_bytes(good[:byte] + bytes([good[byte] ^ 1 << int(draws.integers(8))]) + good[byte + 1 :])
        with pytest.raises((WorkError, InputError), match=re.escape(names[number])):
            verify_shards(copied)
        path.write_bytes(good)


@pytest.mark.parametrize("member", ["jpg", "slic10.png", "slico16.png", "density.png", "labels.png", "json"])
def test_a_flipped_bit_of_a_member_names_shard_and_key(copied, member):
    shards = Shards(copied)
    offset, size = shards._places("train-000002.tar")[3][member]
    path = copied / "shards/train-000002.tar"
    tar = bytearray(path.read_bytes())
    tar[offset + size // 2] ^= 16
    path.write_bytes(tar)
    with pytest.raises(WorkError, match=r"train-000002\.tar was changed.*\(key (train-\d+)\)") as caught:
        verify_shards(copied)
    assert re.search(r"\(key (.*)\)", str(caught.value))[1] == key_of(shards, "train-000002.tar", 3)


def key_of(shards, tar, index):
    rows = shards.manifest.to_pylist()
    return next(row["key"] for row in rows if (row["shard"], row["index"]) == (tar, index))


@pytest.mark.parametrize("suffixes", [("tar",), ("tar", "idx"), ("tar", "idx", "json")])
def test_swapped_shards_are_found_by_hashes_and_behind_right_hashes(copied, suffixes):
    for suffix in suffixes:
        one, other = (copied / f"shards/train-00000{number}.{suffix}" for number in (0, 3))
        kept = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(kept)
    with pytest.raises(WorkError, match=r"train-000000\.\w+ was changed"):
        verify_shards(copied)
    sealed_again(copied)
    with pytest.raises(WorkError, match=r"train-000000\.tar, key train-\d+: index and tar differ"):
        verify_shards(copied)


def test_missing_and_extra_files_are_found(copied):
    (copied / "shards/train-000002.idx").unlink()
    (copied / "shards/notes.txt").touch()
    (copied / ".hidden").touch()
    with pytest.raises(WorkError, match=r"train-000002\.idx is missing; \.hidden is extra; shards/notes\.txt is extra"):
        verify_shards(copied)


def sealed_again(out):
    """Make the hashes of a damaged OUT right again, so that only what the files say can tell."""
    record = json.loads((out / DATASET_FILE).read_text())
    record.pop("fingerprint")
    record["files"] = {name: LocalStorage(out).sha256(name) for name in record["files"]}
    (out / DATASET_FILE).write_text(json.dumps(DatasetRecord.sealed(**record).content()))


def replace_member(out, number, member, data):
    """Overwrite a member in its tar by other bytes of at most its length."""
    shards = Shards(out)
    offset, size = shards._places(f"train-{number // 8:06d}.tar")[number % 8][member]
    assert len(data) <= size
    path = out / f"shards/train-{number // 8:06d}.tar"
    tar = path.read_bytes()
    path.write_bytes(tar[:offset] + data + bytes(size - len(data)) + tar[offset + size :])


@pytest.mark.parametrize(
    ("member", "change", "told"),
    [
        ("slic10.png", lambda ids: ids + (ids > 3).astype("uint16"), "slic10 has another number of regions"),
        ("slic10.png", lambda ids: ids - (ids == 3).astype("uint16"), "slic10 has gaps in its region numbers"),
        ("slic10.png", lambda ids: swapped(ids), "slic10 has a region in several pieces"),
        ("slic10.png", lambda ids: ids[:-1], "picture or maps are not"),
        ("labels.png", lambda labels: labels * 7, "its labels are not classes"),
        ("density.png", lambda density: density * 0, "its density is not 8-bit or has zeros"),
        ("jpg", lambda picture: None, "cannot be decoded"),
        ("json", lambda meta: None, "its json cannot be read"),
    ],
)
def test_deep_finds_wrong_members_behind_right_hashes(copied, member, change, told):
    shards = Shards(copied)
    sample = shards.sample(5)
    arrays = {"slic10.png": sample.regions["slic10"], "labels.png": sample.labels, "density.png": sample.density}
    changed = change(arrays.get(member))
    replace_member(copied, 5, member, b"garbage" if changed is None else smallest_png(changed))
    sealed_again(copied)
    verify_shards(copied)
    with pytest.raises(WorkError, match=rf"{re.escape(told)}") as caught:
        verify_shards(copied, deep=True)
    assert f"train-000000.tar, key {shards.keys[5]}" in str(caught.value)


def smallest_png(array):
    plain = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE] if array.dtype == np.uint16 else []
    return cv2.imencode(".png", array, [*plain, cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def swapped(ids):
    ids = ids.copy()
    ids[-1, -1] = 0
    return ids


def test_an_index_that_differs_from_its_tar_is_found(copied):
    path = copied / "shards/train-000001.idx"
    version, first, second, *rest = path.read_text().splitlines()
    moved = re.sub(r"jpg (\d+)", lambda match: f"jpg {int(match[1]) + 512}", second, count=1)
    path.write_text("\n".join([version, first, moved, *rest]) + "\n")
    sealed_again(copied)
    key = re.search(r"train-\d+", second)[0]
    with pytest.raises(WorkError, match=rf"train-000001\.tar, key {key}: index and tar differ"):
        verify_shards(copied)


def test_a_manifest_that_lost_a_row_is_found(copied):
    table = pq.read_table(copied / MANIFEST_FILE)
    (copied / MANIFEST_FILE).write_bytes(parquet_bytes(table.slice(0, len(table) - 1)))
    sealed_again(copied)
    with pytest.raises(WorkError, match=r"manifest\.parquet and rejected\.parquet have 35 \+ 4 rows"):
        verify_shards(copied)


@pytest.mark.parametrize("column", ["key", "source"])
def test_a_key_or_source_twice_is_found(copied, column):
    table = pq.read_table(copied / MANIFEST_FILE)
    values = table[column].to_pylist()
    position = table.schema.get_field_index(column)
    table = table.set_column(position, table.schema.field(column), pa.array([values[-1], *values[1:]]))
    (copied / MANIFEST_FILE).write_bytes(parquet_bytes(table))
    sealed_again(copied)
    with pytest.raises(WorkError, match="has a key or a source twice"):
        verify_shards(copied)


def test_rejections_without_codes_are_read_and_get_those_of_their_stages(copied):
    """As folders had them before there were codes."""
    codes = [reason.split(":")[0] for reason in facts(copied)["commonest_rejections"]]
    assert codes == ["1 × decode", "1 × empty", "1 × name", "1 × no-label"]
    table = pq.read_table(copied / REJECTED_FILE).drop_columns(["code"])
    (copied / REJECTED_FILE).write_bytes(parquet_bytes(table))
    sealed_again(copied)
    assert verify_shards(copied).startswith("good")
    codes = [reason.split(":")[0] for reason in facts(copied)["commonest_rejections"]]
    assert codes == ["1 × decode", "1 × label", "1 × name", "1 × read"]
    assert Earlier(open_storage(copied)).rejected().schema.equals(REJECTED_SCHEMA)


def test_rejections_are_grouped_by_their_code_with_the_commonest_reason():
    rows = [("decode", "corrupt")] * 2 + [("decode", "unknown"), ("empty", "empty")] + [("name", "other")] * 4
    table = rejected_table([{"source": "", "stage": "read", "reason": reason, "code": code} for code, reason in rows])
    assert commonest_reasons(table) == [
        "4 × name: other",
        "3 × decode: corrupt (and 1 other reason)",
        "1 × empty: empty",
    ]

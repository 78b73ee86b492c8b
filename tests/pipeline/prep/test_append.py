"""OUT grows: new inputs become new shards, rejected ones are tried again, and every version stays readable."""

import shutil

import pytest
from sharding import blobs, bytes_of, entries_of, jpeg, shard_blobs

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.shard_format import DATASET_FILE
from vice.pipeline.prep import append as append_module
from vice.pipeline.prep.append import append, retry_rejected
from vice.pipeline.prep.job import shard_dataset
from vice.pipeline.prep.shard import WORK_FOLDER
from vice.pipeline.prep.verify import verify_shards
from vice.pipeline.shards import Shards
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.local import LocalStorage


@pytest.fixture
def grown(tmp_path):
    """OUT of five pictures and a file that is none; since then the source has three more."""
    folder = tmp_path / "blobs"
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures/bad.jpg").write_bytes(b"no picture")
    shard_blobs(folder, 5, samples_per_shard=2)
    for number in range(5, 8):
        (folder / f"pictures/{number:02d}.jpg").write_bytes(jpeg(blobs(40, 40, number)))
    return folder


def test_new_inputs_become_new_shards_and_existing_bytes_stay(grown):
    out, source = grown / "out", grown / "pictures"
    before, first = bytes_of(out), Shards(out)
    appended = append(source, out, workers=0)
    after, shards = bytes_of(out), Shards(out)
    kept = [name for name in before if name.startswith("shards/")]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert (appended.num_new, appended.num_tried, appended.num_present) == (3, 3, 6)
    assert (shards.record.version, shards.record.data_version, len(shards)) == (2, 2, 8)
    assert entries_of(LocalStorage(out)) == sorted([*(f"{number:02d}.jpg" for number in range(8)), "bad.jpg"])
    assert verify_shards(out, deep=True).startswith("good: 8 samples in 5 shards")
    assert append(source, out, workers=0).num_tried == 0
    assert shard_dataset(source, out, shards.record.settings, shards.spec, workers=0).was_complete

    earlier = shards.as_of(first.fingerprint)
    assert (earlier.fingerprint, earlier.record.data_version, len(earlier)) == (first.fingerprint, 1, 5)
    assert earlier.keys == shards.keys[:5] and shards.as_of("another") is shards
    # those that were opened before the append stay as they were
    for opened in (earlier, first, Shards(out).as_of(first.fingerprint)):
        assert sum(batch.num_rows for batch in opened.manifest_batches()) == 5 and len(opened.manifest) == 5


@pytest.mark.parametrize("file", ["manifest.parquet", "rejected.parquet", DATASET_FILE])
def test_an_append_that_dies_while_it_completes_out_is_finished_with_the_same_bytes(grown, monkeypatch, tmp_path, file):
    """Also where the source has grown once more: what was begun is then removed."""
    out = grown / "out"
    whole = shutil.copytree(out, tmp_path / "whole")
    append(grown / "pictures", whole, workers=0)
    create = LocalStorage.create

    def dying(storage: Storage, name: str):
        if name == file:
            raise KeyboardInterrupt
        return create(storage, name)

    monkeypatch.setattr(LocalStorage, "create", dying)
    with pytest.raises(KeyboardInterrupt):
        append(grown / "pictures", out, workers=0)
    monkeypatch.undo()
    other = shutil.copytree(out, tmp_path / "other")
    append(grown / "pictures", out, workers=0)
    assert bytes_of(out) == bytes_of(whole)

    (grown / "pictures/08.jpg").write_bytes(jpeg(blobs(40, 40, 8)))
    assert append(grown / "pictures", other, workers=0).num_new == 4
    assert verify_shards(other).startswith("good: 9 samples")


def test_a_rejected_input_that_was_mended_goes_into_a_new_shard(grown):
    out, source = grown / "out", grown / "pictures"
    with pytest.raises(WorkError, match=r"all 1 inputs to add were rejected.*OUT is as it was"):
        retry_rejected(source, out, workers=0)
    before = bytes_of(out)
    assert not (out / WORK_FOLDER).exists() and verify_shards(out)
    (source / "bad.jpg").write_bytes(jpeg(blobs(40, 40, 50)))
    retried = retry_rejected(source, out, workers=0)
    assert (retried.num_new, retried.record.num_inputs, retried.record.num_rejected) == (1, 6, 0)
    assert {name for name, data in bytes_of(out).items() if before.get(name) != data} == {
        *(f"shards/train-000003.{suffix}" for suffix in ("tar", "idx", "json")),
        *("manifest.parquet", "rejected.parquet", DATASET_FILE),
    }
    assert verify_shards(out, deep=True) and append(source, out, workers=0).num_new == 3


def test_another_folder_with_the_same_names_is_refused_unless_its_pictures_are_the_same(grown, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(grown / "pictures/01.jpg", other / "01.jpg")
    (other / "20.jpg").write_bytes(jpeg(blobs(40, 40, 20)))
    assert append(other, grown / "out", workers=0).num_new == 1
    (other / "01.jpg").write_bytes(jpeg(blobs(40, 40, 21)))
    with pytest.raises(InputError, match=r"1 pictures have the path of another picture in OUT \(01\.jpg\)"):
        append(other, grown / "out", workers=0)


def test_other_versions_of_what_makes_bytes_are_refused(grown, monkeypatch):
    monkeypatch.setattr(append_module, "implementation", lambda _: {"opencv": "9"})
    with pytest.raises(InputError, match=r"opencv"):
        append(grown / "pictures", grown / "out")


def test_changed_sources_are_named_with_what_can_be_done(grown):
    out, source = grown / "out", grown / "pictures"
    record = Shards(out).record
    (source / "00.jpg").unlink()
    added = r"3 added \(05\.jpg, 06\.jpg, 07\.jpg\), 1 removed \(00\.jpg\)"
    with pytest.raises(InputError, match=f"{added}.*vice-prep append"):
        shard_dataset(source, out, record.settings, record.dataset)

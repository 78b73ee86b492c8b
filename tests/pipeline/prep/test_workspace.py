"""OUT while it is made: where it may be, one writer, one plan, which shards are whole."""

import pytest
from sharding import make_shard, shard_serially

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.plan import make_plan
from vice.pipeline.prep.shard import ROWS_FOLDER, check_shard
from vice.pipeline.prep.workspace import Workspace, refuse_if_other
from vice.pipeline.storage.local import ASIDE_FOLDER, LocalStorage


def workspace(folder, plan):
    return Workspace(LocalStorage(folder), plan)


def is_whole(held, number):
    return check_shard(held.out, held.plan.shard(number), held.plan.settings_fingerprint) is not None


@pytest.fixture
def plan(source, settings, spec):
    return make_plan(source, settings, spec)


def test_a_begun_out_knows_which_shards_are_whole(plan, tmp_path):
    with workspace(tmp_path / "out", plan) as held:
        made = make_shard(held, 0)
        (tmp_path / "out" / ASIDE_FOLDER / "train-000001.tar.99.tmp").write_text("half")
    with workspace(tmp_path / "out", plan) as held:
        assert held.begun_shards() == [0]
        assert [is_whole(held, number) for number in plan.numbers] == [True] + [False] * 4
        assert check_shard(held.out, "train-000000", plan.settings_fingerprint) == made
        assert check_shard(held.out, "train-000000", "of other settings") is None
        assert not (tmp_path / "out" / ASIDE_FOLDER).exists()


@pytest.mark.parametrize(
    "lost", ["shards/train-000000.tar", "shards/train-000000.json", f"{ROWS_FOLDER}/train-000000.parquet"]
)
def test_a_shard_that_lost_a_file_is_not_whole(plan, tmp_path, lost):
    with workspace(tmp_path, plan) as held:
        make_shard(held, 0)
        (tmp_path / lost).unlink()
        assert not is_whole(held, 0)


@pytest.mark.parametrize("suffix", ["tar", "idx"])
def test_a_shard_with_a_changed_byte_is_not_whole(plan, tmp_path, suffix):
    with workspace(tmp_path, plan) as held:
        make_shard(held, 0)
        path = tmp_path / f"shards/train-000000.{suffix}"
        data = bytearray(path.read_bytes())
        data[-600 if suffix == "tar" else 20] ^= 1
        path.write_bytes(data)
        assert not is_whole(held, 0)


def test_a_second_writer_is_refused(plan, tmp_path):
    with workspace(tmp_path, plan), pytest.raises(WorkError, match=r"another run is writing there.*wait"):
        workspace(tmp_path, plan).__enter__()
    with workspace(tmp_path, plan) as held:
        assert not is_whole(held, 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 3}, r"settings\.seed: 0 -> 3"),
        ({"split": "val"}, r"settings\.split: 'train' -> 'val'"),
        ({"regions": [RegionLayer.from_text("slic:12")]}, r"settings\.regions: 'slic:10, slico:16' -> 'slic:12'"),
    ],
)
def test_other_settings_are_refused_by_name(source, settings, spec, plan, shards, tmp_path, change, told):
    """In an OUT that was begun and in one that is complete."""
    other = make_plan(source, settings.model_copy(update=change), spec)
    with workspace(tmp_path, plan):
        pass
    with pytest.raises(InputError, match=f"begun with other settings or inputs .*{told}.*a new folder"):
        workspace(tmp_path, other).__enter__()
    with pytest.raises(InputError, match=told):
        refuse_if_other(LocalStorage(shards), other)


def test_other_inputs_are_refused_by_name(source, settings, spec, plan, shards, tmp_path):
    fewer = tmp_path / "fewer"
    (fewer / "images").mkdir(parents=True)
    (fewer / "images/new.jpg").touch()
    other = make_plan(fewer, settings, spec)
    with workspace(tmp_path / "out", plan):
        pass
    with pytest.raises(InputError, match=r"inputs\.number: 40 -> 1"):
        workspace(tmp_path / "out", other).__enter__()
    with pytest.raises(InputError, match=r"1 added \(images/new\.jpg\), 40 removed \(images/empty\.png, .*, …\)"):
        refuse_if_other(LocalStorage(shards), other)


def test_a_complete_out_without_its_manifest_is_told_in_one_line(plan, copied):
    (copied / "manifest.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match=r"cannot be read: .*manifest\.parquet; shard again into a new folder"):
        refuse_if_other(LocalStorage(copied), plan)


def test_places_that_cannot_be_an_out_are_refused(plan, source, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="OUT is a file"):
        workspace(tmp_path / "file", plan).__enter__()
    with pytest.raises(InputError, match=r"OUT is not empty \(holds file\)"):
        workspace(tmp_path, plan).__enter__()
    with pytest.raises(InputError, match="OUT lies in the source folder"):
        workspace(source / "shards", plan).__enter__()
    assert sorted(path.name for path in source.iterdir()) == ["images", "labels", "readme.txt"]


def test_if_all_inputs_are_rejected_nothing_stays(tmp_path):
    (tmp_path / "bad").mkdir()
    for number in range(3):
        (tmp_path / f"bad/{number}.jpg").write_text("no picture")
    with pytest.raises(WorkError, match=r"all 3 inputs were rejected \(3 × decode: no picture in a known format"):
        shard_serially(tmp_path / "bad", tmp_path / "out", PrepSettings(samples_per_shard=2))
    assert not list((tmp_path / "out").iterdir())


def test_layers_and_splits_that_clash_are_refused(source, spec):
    twice = [RegionLayer.from_text("slic:10"), RegionLayer.from_text("slic:10,ruler=10")]
    with pytest.raises(InputError, match="region layer given twice: slic10"):
        make_plan(source, PrepSettings(regions=twice), spec)
    with pytest.raises(InputError, match="longer than 40 characters"):
        make_plan(source, PrepSettings(split="x" * 41), spec)

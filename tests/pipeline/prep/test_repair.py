"""A complete OUT with missing or damaged shards gets the same bytes back, from the source, or says why it cannot."""

import pytest
from sharding import blobs, bytes_of, jpeg, shard_blobs

from vice.data_specs.errors import WorkError
from vice.pipeline.prep import repair as repair_module
from vice.pipeline.prep.damage import changed_shards, missing_shards
from vice.pipeline.prep.job import shard_dataset
from vice.pipeline.prep.part import make_part
from vice.pipeline.prep.repair import repair_damage
from vice.pipeline.shards import Shards
from vice.pipeline.storage.local import LocalStorage


@pytest.fixture
def folder(tmp_path):
    """Five shards of a picture each; every input of the third was rejected."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/bad.jpg").write_bytes(b"no picture")
    shard_blobs(tmp_path, 4, samples_per_shard=1)
    return tmp_path


def again(folder):
    record = Shards(folder / "out").record
    return shard_dataset(folder / "pictures", folder / "out", record.settings, record.dataset, workers=0)


def test_lost_and_cut_shards_are_made_again_by_the_same_command(folder):
    out = folder / "out"
    before = bytes_of(out)
    empty = next(
        name
        for name in before
        if name.startswith("shards/") and name.endswith(".json") and name.replace(".json", ".tar") not in before
    )
    tars = sorted(name for name in before if name.endswith(".tar"))
    (out / tars[0]).unlink()
    (out / tars[1]).write_bytes(before[tars[1]][:-512])
    (out / tars[2].replace(".tar", ".idx")).write_text("v1.2 0\n")
    (out / empty).unlink()
    # a rejected input that was mended since belongs to none of these shards
    (folder / "pictures/bad.jpg").write_bytes(jpeg(blobs(40, 40, 9)))
    outcome = again(folder)
    assert outcome.repaired == 4 and bytes_of(out) == before
    assert again(folder).headline == "nothing to do: complete already"


def test_what_only_hashes_show_is_found_by_verify(folder):
    out = folder / "out"
    before = bytes_of(out)
    tar = next(name for name in before if name.endswith(".tar"))
    (out / tar).write_bytes(before[tar][:600] + b"?" + before[tar][601:])
    shards = Shards(out)
    name = tar.removeprefix("shards/").removesuffix(".tar")
    assert missing_shards(shards) == [] and changed_shards(shards) == [name]
    assert repair_damage(folder / "pictures", out, workers=0) == f"made again: {name}"
    assert bytes_of(out) == before and repair_damage(folder / "pictures", out) == "no shard to repair"


def test_what_a_killed_repair_left_is_removed_also_where_all_shards_are_whole(folder):
    """It was killed after the last shard, before it had tidied up."""
    out = folder / "out"
    before = bytes_of(out)
    for repair in (lambda: repair_damage(folder / "pictures", out), lambda: again(folder)):
        LocalStorage(out).write(".vice-prep/aside/train-000001.tar.0123456789abcdef.tmp", b"half a shard")
        repair()
        assert bytes_of(out) == before


def test_a_shard_is_never_replaced_by_another_one(folder, monkeypatch):
    out, source = folder / "out", folder / "pictures"
    shards = Shards(out)
    shard, path = shards.manifest["shard"][0].as_py(), source / shards.manifest["source"][0].as_py()
    (out / "shards" / shard).write_bytes(b"damaged")
    good = path.read_bytes()
    for data, reason in [(jpeg(blobs(40, 40, 77)), "has changed since"), (b"", "is rejected now"), (None, "no longer")]:
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(WorkError, match=rf"{reason}|{path.name}"):
            repair_damage(source, out, workers=0)
        assert (out / "shards" / shard).read_bytes() == b"damaged"
    path.write_bytes(good)
    write = repair_module.write_tar
    with monkeypatch.context() as patch:
        patch.setattr(repair_module, "write_tar", lambda *args, expected: write(*args, expected="0" * 64))
        recorded = repair_module._plan(shards, repair_module.find_inputs(source, shards.spec, "train"), [shard[:-4]])
        with pytest.raises(WorkError, match="the same pictures give another shard"):
            parts = [make_part(recorded.inputs_of(0), recorded.recipe)]
            repair_module._rewrite(shards.storage, shard[:-4], parts, recorded.recorded[0])
    assert (out / "shards" / shard).read_bytes() == b"damaged"
    repair_damage(source, out, workers=0)
    assert not changed_shards(shards)

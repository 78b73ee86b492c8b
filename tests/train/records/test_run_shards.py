"""A run stays on the version of the shards that it started with, whatever was appended since."""

import json

import pytest
import tiny_run
from sharding import blobs, jpeg, shard_blobs

from vice.data_specs.errors import InputError
from vice.pipeline.prep.append import append
from vice.pipeline.shards import Shards
from vice.train.launching.launch import launch
from vice.train.records.checkpoint import read_checkpoint
from vice.train.records.run_shards import note_shards, shards_of_run


@pytest.fixture
def folder(tmp_path):
    """Four pictures, sharded, and two more in the source."""
    shard_blobs(tmp_path, 4, samples_per_shard=2)
    for number in range(4, 6):
        (tmp_path / f"pictures/{number:02d}.jpg").write_bytes(jpeg(blobs(40, 40, number)))
    return tmp_path


def test_a_run_resumes_on_its_version_and_a_new_one_takes_the_newest(folder, monkeypatch):
    out, run = folder / "out", folder / "run"
    first = Shards(out)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    views = {"num_views": 2, "size": 32, "regions": "slic:10"}
    assignment = {"num_concepts": 4, "swav": {"queue_length": 0}, "freeze_concepts_steps": 0}
    config = tiny_run.tiny(views=views, assignment=assignment, epochs=1, checkpoint_every=1, reader="plain")
    options = {"num_processes": None, "nodes": "1", "endpoint": "", "max_restarts": 0}
    launch(config, str(out), run, **options)
    (run / "checkpoints/last.pt").unlink()
    (run / "checkpoints/step-00000001.pt").rename(run / "checkpoints/last.pt")
    (run / "checkpoints/step-00000002.pt").unlink()
    append(folder / "pictures", out, workers=0)
    launch(config, str(out), run, **options)
    state = read_checkpoint(run / "checkpoints/last.pt").state
    assert (state["step"], state["loader"]["shards"]) == (2, first.fingerprint)

    (folder / "new").mkdir()
    note_shards(folder / "new", Shards(out))
    note_shards(run, Shards(out))
    noted = [json.loads((folder / name / "shards.json").read_text()) for name in ("run", "new")]
    assert [(one["data_version"], one["num_samples"]) for one in noted] == [(1, 4), (2, 6)]
    assert [len(shards_of_run(folder / name, Shards(out))) for name in ("run", "new", "none")] == [4, 6, 6]


def test_a_damaged_note_is_one_line(folder):
    (folder / "shards.json").write_text("{")
    with pytest.raises(InputError, match=r"shards\.json; use another --run-dir"):
        shards_of_run(folder, Shards(folder / "out"))

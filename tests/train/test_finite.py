"""A value that is not finite on one of two processes stops both before the step, and its pictures are named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vice.data_specs.errors import WorkError
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.distributed import Process
from vice.train.loop import train

POISONED_STEP = 1


def config(**changes):
    fields = {
        "name": "finite",
        "model": {"encoder": "regnetx_002", "decoder_channels": 64, "embedding_dim": 16},
        "views": {"num_views": 2, "size": 64, "regions": "slic:12"},
        "assignment": {"num_concepts": 8, "swav": {"queue_length": 0}},
        "global_batch": 4,
        "epochs": 4,
        "checkpoint_every": 1,
        "reader": "plain",
        "pictures_every": 0,
    }
    return TrainConfig(**{**fields, **changes})


def poison(loader_class):
    """Every loader's batch of one step has pictures that are not numbers."""
    plain = loader_class.__next__

    def poisoned(self):
        batch = plain(self)
        return batch._replace(images=batch.images * torch.nan) if self.step == POISONED_STEP + 1 else batch

    loader_class.__next__ = poisoned


def process(rank, shards, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    if rank == 1:
        poison(ViewLoader)
    try:
        train(config(), Shards(shards), folder / "run", Process(rank, 2, torch.device("cpu")))
    except WorkError as error:
        (folder / f"{rank}.txt").write_text(error.line())
    torch.distributed.destroy_process_group()


def test_one_process_of_two_stops_both_before_the_step(scene_shards, tmp_path):
    command = [sys.executable, __file__, str(scene_shards["train"]), str(tmp_path)]
    (tmp_path / "run").mkdir()
    children = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    said = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    told = json.loads((tmp_path / "run" / "nonfinite-00000001.json").read_text())
    first, second = told["processes"]
    assert told["step"] == POISONED_STEP
    assert first["not_finite"][0] == "loss"
    assert second["not_finite"] == ["images", "embeddings", "loss", "gradient"]
    assert len(set(first["keys"] + second["keys"])) == 4
    expected = f"images not finite at step 1: process 1, keys {', '.join(second['keys'])}; see nonfinite-00000001.json"
    assert said[0] == said[1] and said[0].startswith(expected)
    assert [path.name for path in sorted((tmp_path / "run" / "checkpoints").glob("step*"))] == ["step-00000001.pt"]


def test_a_gradient_alone_is_found_before_the_update(scene_shards, tmp_path, monkeypatch):
    monkeypatch.setattr("vice.train.losses.terms.swapped_prediction.SwappedPrediction.__call__", steep)
    one = Process(0, 1, torch.device("cpu"))
    with pytest.raises(WorkError, match=r"gradient not finite at step 0: process 0, keys (train-\d+(, )?){4}; see"):
        train(config(), Shards(scene_shards["train"]), tmp_path, one)
    assert not (tmp_path / "checkpoints").exists()


def steep(term, regions):
    """Finite, with an infinite slope."""
    return (regions.scores * 0).sum().abs().sqrt()


if __name__ == "__main__":
    process(int(sys.argv[3]), sys.argv[1], Path(sys.argv[2]))

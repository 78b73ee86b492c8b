"""Offline assignment: labels are an epoch's nearest centroids, are found again by place, and are in the state."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vice.data_specs.errors import InputError
from vice.pipeline.shards import Shards
from vice.train.assignment.method import MethodContext, RegionsOfStep, Views
from vice.train.assignment.methods.kmeans import KMeansAssignment, KMeansSettings
from vice.train.config import TrainConfig
from vice.train.distributed import Process
from vice.train.loop import train
from vice.train.records.checkpoint import read_checkpoint

ONE = Process(0, 1, torch.device("cpu"))
CENTRES = torch.eye(3)


def regions_of(first_step):
    """Two steps of two pictures with 3 and 2 regions, each near one of three centres, in another order every epoch."""
    generator = torch.Generator().manual_seed(first_step)
    for step in (first_step, first_step + 1):
        which = torch.randperm(5, generator=generator) % 3
        rows = F.normalize(CENTRES[which] + 0.1 * torch.randn(5, 3, generator=generator), dim=1)
        # picture 1 comes first, as from a process that has the later one of a step
        yield RegionsOfStep(rows, torch.tensor([1, 1, 1, 0, 0]) + 2 * step)


def assignment(num_concepts=3):
    concepts = nn.Parameter(torch.randn(num_concepts, 3, generator=torch.Generator().manual_seed(0)))
    settings = TrainConfig(name="offline", assignment={"num_concepts": num_concepts})
    context = MethodContext(settings, concepts, ONE, steps_per_epoch=2, regions_of=regions_of)
    return KMeansAssignment(KMeansSettings(), context), concepts


def views_of(embeddings, concepts, positions, ids):
    """One view's regions, as a step gives them to the method."""
    scores = (embeddings @ concepts.T).detach()
    return Views(embeddings[None], scores[None], concepts.detach(), torch.tensor(positions), torch.tensor(ids))


def test_regions_get_the_nearest_centroid_of_the_epoch():
    offline, concepts = assignment()
    for first in (0, 2):
        offline.begin_step(first)
        torch.testing.assert_close(concepts.norm(dim=1), torch.ones(3))
        every = torch.cat([made.embeddings for made in regions_of(first)])
        assert (every @ concepts.T).max(1).values.mean() > (every @ CENTRES.T).max(1).values.mean() - 0.02
        fitted = concepts.detach().clone()
        for step, made in zip((first, first + 1), regions_of(first), strict=True):
            offline.begin_step(step)
            # both regions of picture 0, and of picture 1 the first and the last of three
            embeddings = made.embeddings[[3, 4, 0, 2]]
            positions = [position + 2 * step for position in (0, 0, 1, 1)]
            (assigned,) = offline.assign(views_of(embeddings, concepts, positions, [0, 1, 0, 2]))
            expected = (embeddings @ fitted.T).argmax(1)
            assert assigned.argmax(1).tolist() == expected.tolist()
            assert (assigned.sum(1) == 1).all() and ((assigned == 0) | (assigned == 1)).all()
        assert torch.equal(concepts, fitted)


def test_the_state_holds_the_epochs_labels():
    offline, concepts = assignment()
    offline.begin_step(0)
    other, others_concepts = assignment()
    others_concepts.data.copy_(concepts)
    other.load_state_dict(offline.state_dict())
    other.context = other.context._replace(regions_of=None)  # nothing is clustered again in the middle of an epoch
    other.begin_step(1)
    view = views_of(torch.zeros(3, 3), concepts, [3, 3, 3], [0, 1, 2])
    assert torch.equal(other.assign(view), offline.assign(view))


def test_more_concepts_than_regions_are_refused():
    offline, _ = assignment(num_concepts=11)
    with pytest.raises(InputError, match=r"10 regions, fewer than the 11 concepts.*lower assignment.num_concepts"):
        offline.begin_step(0)


def config(**changes):
    fields = {
        "name": "offline",
        "model": {"decoder_channels": 64, "embedding_dim": 16},
        "views": {"num_views": 2, "size": 64, "regions": "slic:12"},
        "assignment": {"method": "kmeans", "num_concepts": 8},
        "optimiser": {"name": "adamw", "learning_rate": 1e-3},
        "global_batch": 4,
        "epochs": 2,
        "checkpoint_every": 2,
        "keep_checkpoints": 9,
        "log_every": 1,
    }
    return TrainConfig(**{**fields, **changes})


def test_a_run_goes_on_in_the_middle_of_an_epoch_to_the_bit(scene_shards, tmp_path):
    """Ten pictures in steps of four: epochs of three steps, of which the stop at step 4 leaves two."""
    shards = Shards(scene_shards["train"])
    train(config(), shards, tmp_path / "whole", ONE)
    folder = tmp_path / "stopped" / "checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "whole" / "checkpoints" / "step-00000004.pt").rename(folder / "last.pt")
    train(config(), shards, tmp_path / "stopped", ONE)
    whole, stopped = (
        read_checkpoint(tmp_path / name / "checkpoints" / "last.pt").state for name in ("whole", "stopped")
    )
    assert whole["step"] == stopped["step"] == 5 and whole["assignment"]["epoch"] == 1
    assert all(torch.equal(value, stopped["model"][name]) for name, value in whole["model"].items())
    assert torch.equal(whole["assignment"]["labels"], stopped["assignment"]["labels"])

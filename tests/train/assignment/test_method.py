"""Methods: each view is transported by itself, `nearest` is a softmax, and a new method is one class of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_run import tiny
from torch import nn

from vice.data_specs.errors import InputError
from vice.train.assignment.method import METHODS, MethodContext, Views
from vice.train.assignment.sinkhorn import sinkhorn
from vice.train.config_files import load_config
from vice.train.distributed import Process

CONCEPTS, DIM = 5, 8


def unit(*shape, seed):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def method(name, **settings):
    concepts = nn.Parameter(unit(CONCEPTS, DIM, seed=0))
    process = Process(0, 1, torch.device("cpu"))
    context = MethodContext(tiny(), concepts, process, steps_per_epoch=5, regions_of=None)
    return METHODS[name](METHODS[name].Settings(**settings), context), concepts.detach()


def views_of(num_views, concepts, seed=1):
    embeddings = unit(num_views, 12, DIM, seed=seed)
    positions, ids = torch.arange(12) // 4, torch.arange(12) % 4
    return Views(embeddings, embeddings @ concepts.T, concepts, positions, ids)


def test_every_view_is_transported_by_itself_with_the_queue_of_view_1():
    swav, concepts = method("swav", queue_length=10, epsilon=0.1, iterations=4)
    first = views_of(2, concepts)
    plain = [sinkhorn(scores, epsilon=0.1, iterations=4) for scores in first.scores]
    torch.testing.assert_close(swav.assign(first), torch.stack(plain))
    assert len(swav.queue.rows) == 0
    swav.end_step()
    assert torch.equal(swav.queue.rows, first.embeddings[0, -10:]) and swav.queue.is_full
    second = views_of(2, concepts, seed=2)
    queued = first.embeddings[0, -10:] @ concepts.T
    with_queue = [sinkhorn(torch.cat([scores, queued]), epsilon=0.1, iterations=4)[:12] for scores in second.scores]
    found = swav.assign(second)
    torch.testing.assert_close(found, torch.stack(with_queue))
    alone = sinkhorn(second.scores[0], epsilon=0.1, iterations=4)
    assert (found[0] - alone).abs().max() > 1e-3


def test_the_queue_is_scored_by_the_sources_concepts():
    """Those of the moving average or the teacher, not the model's."""
    swav, _ = method("swav", queue_length=12)
    others = unit(CONCEPTS, DIM, seed=9)
    swav.assign(views_of(1, others))
    swav.end_step()
    views = views_of(1, others, seed=3)
    expected = sinkhorn(torch.cat([views.scores[0], swav.queue.rows @ others.T]), epsilon=0.05, iterations=3)[:12]
    torch.testing.assert_close(swav.assign(views)[0], expected)


def test_nearest_is_a_softmax_of_the_cosines_in_every_view():
    nearest, concepts = method("nearest", temperature=0.05)
    views = views_of(3, concepts)
    found = nearest.assign(views)
    torch.testing.assert_close(found, (views.scores / 0.05).softmax(-1))
    sharp, _ = method("nearest", temperature=1e-7)
    expected = F.one_hot(views.scores.argmax(-1), CONCEPTS).float()
    torch.testing.assert_close(sharp.assign(views), expected)


def test_an_unknown_method_is_one_line_with_the_choices():
    with pytest.raises(InputError, match=r"no assignment method is called 'swaw' \(choices: kmeans, nearest, swav\)"):
        load_config("camvid-cpu", ["assignment.method=swaw"])
    with pytest.raises(InputError, match=r"no assignment method is called 'swaw'; choose from kmeans, nearest, swav"):
        METHODS["swaw"]


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two classes are registered as assignment method 'swav'"):
        METHODS.register("swav")(METHODS["nearest"])


OF_ITS_OWN = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[3])

import torch
from pydantic import Field

from vice.data_specs.validation import StrictModel
from vice.train.assignment.method import METHODS, Method
from vice.train.losses.term import LOSSES, LossTerm, TermSettings


class HashedSettings(StrictModel):
    every: int = Field(default=1, ge=1)


@METHODS.register("hashed")
class Hashed(Method):
    Settings = HashedSettings
    learns_concepts = False

    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.calls = 0

    def assign(self, views):
        self.calls += 1
        columns = views.ids * self.settings.every % views.scores.shape[-1]
        return torch.nn.functional.one_hot(columns, views.scores.shape[-1]).float()[None]

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


@LOSSES.register("length")
class Length(LossTerm):
    Settings = TermSettings

    def __call__(self, regions):
        return (regions.embeddings.norm(dim=-1).mean(0) * regions.share).sum()


# whatever is registered before has a section of the configuration
from tiny_run import tiny

from vice.pipeline.shards import Shards
from vice.train.distributed import Process
from vice.train.loop import train

config = tiny(
    assignment={"method": "hashed", "hashed": {"every": 3}, "num_concepts": 8, "freeze_concepts_steps": 1},
    losses={"length": {"weight": 0.5}},
    epochs=0.4,
    reader="plain",
)
state = train(config, Shards(sys.argv[1]), Path(sys.argv[2]), Process(0, 1, torch.device("cpu")))
assert state.assignment.calls == state.step == 2
assert set(state.losses) == {"length", "swapped_prediction"}
"""


def test_a_method_and_a_term_of_ones_own_are_one_class_each(scene_shards, tmp_path):
    """In a process of its own, as a file in `methods/` is imported: before the configuration is made."""
    import json

    tests = Path(__file__).parents[2]
    command = [sys.executable, "-c", OF_ITS_OWN, scene_shards["train"], tmp_path, tests]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["loss/length"] == pytest.approx(1.0, abs=1e-4)
        assert line["loss"] == pytest.approx(line["loss/swapped_prediction"] + 0.5, abs=1e-4)
    saved = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert saved["assignment"] == {"calls": 2} and saved["config"]["assignment"]["hashed"] == {"every": 3}

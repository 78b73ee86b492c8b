"""Pictures of a step: they show what was there, and a run with them is to the bit the run without."""

import numpy as np
import pytest
import tiny_run
import torch
from PIL import Image

from vice.data_specs.regions import IGNORE
from vice.pipeline.loader.drawing import class_colours
from vice.pipeline.shards import Shards
from vice.train.distributed import Process
from vice.train.loop import train
from vice.train.records.checkpoint import read_checkpoint
from vice.train.records.run_dir import open_run, read_run_config
from vice.train.records.sketch import (
    _NOTHING,
    SIDE,
    _evaluating,
    concepts_of_regions,
    contact_sheet,
    draw_block,
    principal_colours,
)
from vice.train.step import Outcome

GENERATOR = np.random.default_rng(0)
COLUMN = SIDE + 4
TOP = 36


def tiny(**changes):
    """Four steps of three pictures."""
    return tiny_run.tiny(**{"global_batch": 3, "log_every": 2, **changes})


@pytest.fixture(scope="module")
def runs(scene_shards, tmp_path_factory):
    """The same run with a picture every third step and without any."""
    folders = {}
    for every in (3, 0):
        folders[every] = tmp_path_factory.mktemp(f"every-{every}")
        generator = torch.get_rng_state()
        train(tiny(pictures_every=every), Shards(scene_shards["train"]), folders[every], one())
        assert torch.equal(generator, torch.get_rng_state())
    return folders


def one():
    return Process(0, 1, torch.device("cpu"))


def test_pictures_change_no_bit_of_the_run(runs):
    with_pictures, without = (read_checkpoint(runs[every] / "checkpoints" / "last.pt").state for every in (3, 0))
    assert with_pictures["step"] == 4
    # weights, batch norms' statistics, and what the optimiser keeps
    assert all(torch.equal(value, with_pictures["model"][name]) for name, value in without["model"].items())
    assert torch.equal(with_pictures["assignment"]["queue"], without["assignment"]["queue"])
    moments = [state["optimiser"]["state"] for state in (with_pictures, without)]
    assert all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[1])


def test_pictures_come_at_their_steps_and_at_the_last(runs):
    found = sorted(path.name for path in (runs[3] / "pictures").iterdir())
    assert found == ["step-00000003.png", "step-00000004.png"]
    assert not (runs[0] / "pictures").exists()
    with Image.open(runs[3] / "pictures" / found[0]) as picture:
        # three blocks of four panels, two of them beside each other
        assert picture.width > 2 * 4 * SIDE and picture.height > 2 * 2 * SIDE


def test_a_run_may_go_on_with_other_lines_and_pictures(runs, scene_shards):
    state = train(tiny(pictures_every=1, log_every=1), Shards(scene_shards["train"]), runs[0], one())
    assert state.step == 4


def test_the_runs_folder_notes_them(tmp_path):
    open_run(tmp_path / "run", tiny())
    open_run(tmp_path / "run", tiny(pictures_every=7, log_every=9))
    noted = read_run_config(tmp_path / "run")
    assert (noted.pictures_every, noted.log_every) == (7, 9)


def test_regions_get_their_likeliest_concept():
    concepts, predicted = torch.tensor([1, 0, 1]), torch.zeros(3, dtype=torch.int64)
    usable = torch.tensor([[True, False], [True, True]])
    found = concepts_of_regions(Outcome(torch.tensor(0.0), {}, concepts, predicted, torch.zeros(3, 4), usable))
    assert found.tolist() == [[1, -1], [0, 1]]


def block_of(concepts, regions):
    images = np.zeros((1, 3, 64, 64), np.float32)
    maps = GENERATOR.normal(size=(1, 5, 16, 16)).astype(np.float32)
    return draw_block(images, regions, np.array(concepts, np.int64), maps, num_concepts=4)


def test_a_region_has_its_concepts_colour_and_others_none():
    regions = np.full((1, 64, 64), IGNORE, np.int32)
    regions[0, :32, :32], regions[0, :32, 32:] = 0, 1
    block = block_of([3, -1], regions)
    left, half = 2 * COLUMN, SIDE // 4
    assert tuple(block[TOP + half, left + half]) == tuple(class_colours(4)[3])
    for row, column in ((half, 3 * half), (3 * half, half)):
        assert tuple(block[TOP + row, left + column]) == _NOTHING
    # in the panel of regions, what does not count is greyed, what counts is the picture
    counts, greyed = block[TOP + half, COLUMN + half].astype(int), block[TOP + half, COLUMN + 3 * half].astype(int)
    assert np.array_equal(counts, block[TOP + half, half]) and not np.array_equal(greyed, counts)


def test_a_picture_without_regions_can_be_drawn():
    block = block_of([], np.full((1, 64, 64), IGNORE, np.int32))
    assert (block[TOP : TOP + SIDE, 2 * COLUMN : 2 * COLUMN + SIDE] == _NOTHING).all()
    assert contact_sheet([block], "Step 1 of 2").shape[1] > 4 * SIDE
    assert contact_sheet([block] * 3, "Step 1 of 2").shape[1] > 8 * SIDE


def test_views_share_their_colours():
    first = GENERATOR.normal(size=(6, 8, 8)).astype(np.float32)
    colours = principal_colours(np.stack([first, first[:, ::-1]]))
    assert np.array_equal(colours[0], colours[1][::-1])
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) > 50


def test_embeddings_of_two_numbers_and_alike_embeddings_can_be_shown():
    flat = principal_colours(GENERATOR.normal(size=(1, 2, 8, 8)).astype(np.float32))
    assert flat.shape == (1, 8, 8, 3) and (flat[..., 2] == 0).all()
    assert np.ptp(principal_colours(np.ones((2, 4, 8, 8), np.float32))) == 0


def test_every_part_gets_its_own_mode_back():
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2).eval())
    with pytest.raises(RuntimeError), _evaluating(network):
        assert not any(part.training for part in network.modules())
        raise RuntimeError
    assert [part.training for part in network.modules()] == [True, True, False]

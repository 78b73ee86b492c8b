import numpy as np
import pytest

from vice.data_specs.errors import InputError
from vice.data_specs.regions import IGNORE
from vice.evaluate import conditions
from vice.evaluate.encoders.raw import ColourPositionEncoder
from vice.evaluate.evaluators.groups import MEAN_OVER_GROUPS, evaluate_without_groups
from vice.evaluate.evaluators.linear import LinearEvaluator
from vice.evaluate.evaluators.protocol import Setup
from vice.evaluate.evaluators.running import run_evaluators
from vice.evaluate.names import CHANGED_LIGHT, CLEAN, COLOUR_POSITION
from vice.evaluate.options import Drawing, ProbeSettings, SgdSettings
from vice.evaluate.passes import collect
from vice.evaluate.scenes import scenes
from vice.pipeline.shards import Shards

DRAWING, PROBE = Drawing(pixels_per_picture=300), ProbeSettings()


def labelled_pixels(*pool: Shards) -> int:
    return sum(int((scene.labels != IGNORE).sum()) for scene in scenes(pool, "test"))


def evaluated(setup: Setup, recipe=PROBE, seeds=(0,)):
    evaluator = LinearEvaluator(setup, drawing=DRAWING, recipe=recipe, seeds=seeds)
    return run_evaluators([evaluator], [ColourPositionEncoder()], setup)


@pytest.fixture(scope="module")
def setup(train, val, tmp_path_factory) -> Setup:
    return Setup(train, val, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def evaluation(setup):
    return evaluated(setup)["linear"]


def test_classes_that_are_colours_are_told_by_colour(evaluation):
    clean = evaluation.encoders[COLOUR_POSITION][CLEAN]
    assert clean.accuracy > 0.9
    assert clean.miou > 0.8
    assert clean.iou["never"] is None
    assert evaluation.encoders[COLOUR_POSITION][CHANGED_LIGHT].accuracy < clean.accuracy


def test_every_labelled_val_pixel_is_counted_once(evaluation, val):
    for score in evaluation.encoders[COLOUR_POSITION].values():
        assert np.sum(score.confusion) == labelled_pixels(val)


def test_the_record_holds_what_made_the_numbers(evaluation, train, val):
    assert (evaluation.train.fingerprint, evaluation.val.fingerprint) == (train.fingerprint, val.fingerprint)
    assert evaluation.settings["vectors"]["num_vectors"] == 7 * 300
    assert evaluation.settings["probe"]["l2"] == PROBE.l2
    assert evaluation.settings["fits"][COLOUR_POSITION]["seed 0"]["converged"]
    assert evaluation.settings["conditions"][CHANGED_LIGHT]["hue"] == (-0.05, 0.05)
    assert evaluation.settings["pictures"]["size"] == "as stored"


def test_repeating_gives_equal_numbers(evaluation, setup, tmp_path):
    again = evaluated(setup._replace(run_dir=tmp_path))["linear"]
    assert again.model_copy(update={"seconds": 0}) == evaluation.model_copy(update={"seconds": 0})


def test_several_seeds_give_their_mean_and_spread(evaluation, setup):
    clean = evaluated(setup, seeds=(0, 1))["linear"].encoders[COLOUR_POSITION][CLEAN]
    alone = evaluation.encoders[COLOUR_POSITION][CLEAN]
    assert [repeat.seed for repeat in clean.repeats] == [0, 1]
    assert clean.repeats[0].miou == alone.miou != clean.repeats[1].miou
    assert clean.miou == pytest.approx(np.mean([repeat.miou for repeat in clean.repeats]))
    assert np.sum(clean.confusion) == 2 * np.sum(alone.confusion)


def test_the_paper_s_recipe_takes_the_rate_that_held_out_pictures_like(setup):
    recipe = SgdSettings(learning_rates=(1e-6, 3.0), iterations=300, batch_size=256)
    entries = evaluated(setup, recipe)
    assert list(entries) == ["linear-sgd", "linear-sgd lr-1e-06", "linear-sgd lr-3"]
    # seven train pictures: too few to hold some out, so both rates are ranked on none
    fits = entries["linear-sgd"].settings["fits"][COLOUR_POSITION]["seed 0"]
    assert "miou_on_held_out_pixels" not in fits
    accuracy = {name: entry.encoders[COLOUR_POSITION][CLEAN].accuracy for name, entry in entries.items()}
    assert accuracy["linear-sgd lr-3"] > 0.8 > accuracy["linear-sgd lr-1e-06"]
    assert entries["linear-sgd lr-3"].tiles == []


def test_other_conditions_and_sizes_are_told_apart(setup):
    changed = setup._replace(conditions=conditions.chosen(["noise", "half size"]), short_side=48)
    entry = evaluated(changed)["short-side-48 linear"]
    scores = entry.encoders[COLOUR_POSITION]
    assert list(scores) == [CLEAN, "noise", "half size"]
    assert len({np.sum(score.confusion) for score in scores.values()}) == 1
    accuracy = {name: score.accuracy for name, score in scores.items()}
    assert accuracy[CLEAN] > 0.8 and accuracy[CLEAN] > max(accuracy["noise"], accuracy["half size"]) > 0.5


def test_train_pictures_without_a_labelled_pixel_are_refused(setup, train):
    blank = [scene._replace(labels=np.full_like(scene.labels, IGNORE)) for scene in scenes([train], "test")]
    evaluator = LinearEvaluator(setup, drawing=DRAWING, recipe=PROBE)
    collect(blank, [ColourPositionEncoder()], evaluator.collectors)
    with pytest.raises(InputError, match="no pixel of the train pictures is labelled"):
        evaluator.fit()


def without_groups(setup: Setup):
    encoders, trained_on = [ColourPositionEncoder()], setup.train.fingerprint
    return evaluate_without_groups(encoders, setup, drawing=DRAWING, probe=PROBE, encoder_shards=trained_on)


@pytest.fixture(scope="module")
def by_group(setup):
    return without_groups(setup)


def test_each_group_is_tested_by_a_probe_fitted_on_all_others(by_group, train, val):
    assert list(by_group) == ["linear-without-north", "linear-without-south", "linear-without-west", MEAN_OVER_GROUPS]
    sizes = {"north": 4, "south": 5, "west": 3}
    for group, size in sizes.items():
        entry = by_group[f"linear-without-{group}"]
        assert (entry.val.num_pictures, entry.train.num_pictures) == (size, 12 - size)
        assert entry.settings["vectors"]["num_vectors"] == (12 - size) * 300
    tested = [by_group[f"linear-without-{group}"].encoders[COLOUR_POSITION][CLEAN].confusion for group in sizes]
    assert np.sum(tested) == labelled_pixels(train, val)


def test_the_mean_over_groups_is_their_mean(by_group):
    *parts, mean = (entry.encoders[COLOUR_POSITION][CHANGED_LIGHT] for entry in by_group.values())
    assert mean.miou == pytest.approx(np.mean([part.miou for part in parts]), abs=1e-12)
    assert mean.iou["bluish"] == pytest.approx(np.mean([part.iou["bluish"] for part in parts]), abs=1e-12)
    assert mean.iou["never"] is None
    np.testing.assert_array_equal(mean.confusion, np.sum([part.confusion for part in parts], axis=0))


def test_what_the_encoder_has_seen_is_said(by_group):
    assert all(entry.settings["encoder_has_seen_pictures_of"] == ["train"] for entry in by_group.values())


def test_pictures_without_groups_are_refused(setup, tiny):
    with pytest.raises(InputError, match="not every picture belongs to a group"):
        without_groups(setup._replace(val=Shards(tiny["ungrouped"])))

import numpy as np
import pytest

from vice.data_specs.errors import InputError
from vice.data_specs.regions import IGNORE
from vice.evaluate.encoders import ColourPositionEncoder
from vice.evaluate.groups import MEAN_OVER_GROUPS, evaluate_without_groups
from vice.evaluate.linear import collect_labelled, evaluate_linear
from vice.evaluate.names import CHANGED_LIGHT, CLEAN, COLOUR_POSITION
from vice.evaluate.options import Drawing, LinearOptions
from vice.evaluate.scenes import scenes
from vice.pipeline.shards import Shards

OPTIONS = LinearOptions(Drawing(pixels_per_picture=300))


def labelled_pixels(*pool: Shards) -> int:
    return sum(int((scene.labels != IGNORE).sum()) for scene in scenes(pool, "test"))


@pytest.fixture(scope="module")
def evaluation(train, val, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    return evaluate_linear([ColourPositionEncoder()], train, val, options=OPTIONS, run_dir=run_dir)


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
    assert evaluation.settings["probe"]["l2"] == OPTIONS.probe.l2
    assert evaluation.settings["fits"][COLOUR_POSITION]["converged"]
    assert evaluation.settings["changed_light"]["hue"] == (-0.05, 0.05)


def test_repeating_gives_equal_numbers(evaluation, train, val, tmp_path):
    again = evaluate_linear([ColourPositionEncoder()], train, val, options=OPTIONS, run_dir=tmp_path)
    assert again.model_copy(update={"seconds": 0}) == evaluation.model_copy(update={"seconds": 0})


def test_train_pictures_without_a_labelled_pixel_are_refused(train):
    blank = [scene._replace(labels=np.full_like(scene.labels, IGNORE)) for scene in scenes([train], "test")]
    with pytest.raises(InputError, match="no pixel of the train pictures is labelled"):
        collect_labelled(blank, [ColourPositionEncoder()], num_pixels=10, options=OPTIONS)


@pytest.fixture(scope="module")
def by_group(train, val):
    encoders = [ColourPositionEncoder()]
    return evaluate_without_groups(encoders, train, val, options=OPTIONS, encoder_shards=train.fingerprint)


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


def test_pictures_without_groups_are_refused(train, tiny):
    with pytest.raises(InputError, match="not every picture belongs to a group"):
        evaluate_without_groups([], train, Shards(tiny["ungrouped"]), options=OPTIONS, encoder_shards="")

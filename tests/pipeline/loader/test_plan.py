"""What chance decides about views: the authors' probabilities and ranges, and nothing where it is not applied."""

import numpy as np
import pytest

from vice.pipeline.loader.order import Visit
from vice.pipeline.loader.plan import plan_views
from vice.pipeline.loader.settings import ViewSettings

NUM_VIEWS, NUM_VISITS = 5, 1000


@pytest.fixture(scope="module")
def plans():
    density = np.ones((60, 80), np.uint8)
    view_settings = ViewSettings(num_views=NUM_VIEWS, size=96)
    return [
        plan_views(320, 240, density, 4, settings=view_settings, seed=0, visit=Visit(0, sample))
        for sample in range(NUM_VISITS)
    ]


def together(plans, part):
    return np.concatenate([part(plan) for plan in plans])


def assert_share(found, wanted):
    """A share of independent draws within five standard deviations."""
    assert abs(found.mean() - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / len(found))


def test_colour_blur_grey_and_flips_come_as_often_as_they_should(plans):
    # jittered (0.8) or grey (0.2), independently
    assert_share(together(plans, lambda plan: plan.colour.applied), 1 - 0.2 * 0.8)
    assert_share(together(plans, lambda plan: plan.colour.saturation == 0), 0.2)
    assert_share(together(plans, lambda plan: plan.blur_sigma > 0), 0.5)
    assert_share(together(plans, lambda plan: plan.flip), 0.5)


@pytest.mark.parametrize(
    ("part", "low", "high"),
    [("brightness", 0.2, 1.8), ("contrast", 0.2, 1.8), ("saturation", 0.2, 1.8), ("hue", -72, 72)],
)
def test_colour_is_uniform_in_its_range_where_it_is_jittered(plans, part, low, high):
    values = together(plans, lambda plan: getattr(plan.colour, part))
    jittered = together(plans, lambda plan: plan.colour.brightness != 1) & (together(plans, saturation) > 0)
    values = values[jittered]
    assert low <= values.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < values.max() <= high
    # uniform: standard deviation of the mean is the range / sqrt(12 n)
    assert abs(values.mean() - (low + high) / 2) < 5 * (high - low) / np.sqrt(12 * len(values))


def saturation(plan):
    return plan.colour.saturation


def test_blur_and_masking_are_uniform_in_their_ranges(plans):
    sigma = together(plans, lambda plan: plan.blur_sigma)
    share = together(plans, lambda plan: plan.mask_share)
    for values, low, high in ((sigma[sigma > 0], 0.1, 2.0), (share, 0.0, 0.25)):
        assert low <= values.min() and values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 5 * (high - low) / np.sqrt(12 * len(values))


def test_a_view_whose_colour_is_left_alone_has_neutral_values(plans):
    for plan in plans:
        alone = ~plan.colour.applied
        assert (plan.colour.brightness[alone] == 1).all() and (plan.colour.contrast[alone] == 1).all()
        assert (plan.colour.saturation[alone] == 1).all() and (plan.colour.hue[alone] == 0).all()


def test_a_picture_s_views_and_visits_have_chances_of_their_own(plans):
    boxes = [tuple(map(tuple, plan.boxes)) for plan in plans]
    assert len(set(boxes)) == len(boxes)
    assert all(len(set(plan.seed.tolist())) == NUM_VIEWS + 1 for plan in plans)

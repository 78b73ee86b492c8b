"""Which pictures a probe's setting is chosen on, and that a probe of many values gets the penalty it needs."""

import numpy as np
import pytest

from vice.evaluate.evaluators.held_out import held_out, miou
from vice.evaluate.evaluators.softmax_regression import MIDDLE_PENALTY, fit_linear, fit_quickly
from vice.evaluate.options import ProbeSettings


@pytest.mark.parametrize("num_pictures", [10, 12, 19, 20, 37, 367])
def test_a_tenth_of_the_pictures_in_contiguous_stretches(num_pictures):
    numbers = np.repeat(np.arange(num_pictures) * 3 + 5, 4)
    out = held_out(numbers).reshape(-1, 4)
    assert (out.all(1) == out.any(1)).all()  # never some pixels of a picture
    chosen = np.flatnonzero(out.all(1))
    assert num_pictures / 20 <= len(chosen) <= num_pictures / 6
    assert 1 + (np.diff(chosen) > 1).sum() == (2 if num_pictures >= 20 else 1)


def test_nine_pictures_are_too_few():
    assert not held_out(np.arange(9)).any()


def noisy_wide(draws, pictures, depth):
    """Labels that two of many values tell; every picture has an offset of its own in all of them, as a scene has."""
    labels = draws.integers(0, 2, (pictures, 10))
    vectors = draws.standard_normal((pictures, 1, depth)) + 0.3 * draws.standard_normal((pictures, 10, depth))
    vectors[..., :2] += labels[..., None]
    numbers = np.repeat(np.arange(pictures), 10)
    return vectors.reshape(-1, depth).astype(np.float32), labels.reshape(-1).astype(np.uint16), numbers


def test_many_values_and_few_pictures_get_the_strong_penalty_and_are_better_for_it_on_other_pictures():
    draws = np.random.Generator(np.random.Philox(key=3))
    vectors, labels, numbers = noisy_wide(draws, 40, 300)
    fit = fit_quickly(vectors, labels, numbers, num_classes=2)
    tried = fit.told["miou_on_held_out_pixels_by_l2"]
    assert set(tried) == {"0.001", "0.0001", "1e-05"} and fit.told["l2"] == 1e-3
    other, of_other, _ = noisy_wide(draws, 400, 300)
    weak = fit_linear(vectors, labels, num_classes=2, l2=1e-5)
    assert miou(fit.head, other, of_other, 2) > miou(weak.head, other, of_other, 2)


def test_a_given_penalty_is_taken_and_too_few_pictures_take_the_middle_one():
    vectors, labels, numbers = noisy_wide(np.random.Generator(np.random.Philox(key=4)), 8, 5)
    assert fit_quickly(vectors, labels, numbers, num_classes=2).told["l2"] == MIDDLE_PENALTY
    given = fit_quickly(vectors, labels, numbers, num_classes=2, settings=ProbeSettings(l2=0.5))
    assert given.told["l2"] == 0.5 and "miou_on_held_out_pixels_by_l2" not in given.told
    np.testing.assert_array_equal(given.head.weight, fit_linear(vectors, labels, num_classes=2, l2=0.5).head.weight)

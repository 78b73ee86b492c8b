"""Measures of light and the raw probe on pictures whose answers are known."""

import numpy as np
import pytest

from vice.pipeline.scenes.measure import class_colours, picture_light
from vice.pipeline.scenes.raw_probe import class_ious, fit_softmax, raw_features


def test_flat_grey():
    measured = picture_light(np.full((32, 32, 3), 100, np.uint8))
    assert measured["brightness"] == pytest.approx(100, abs=1e-3)
    assert measured["red_green"] == measured["blue_green"] == 1
    for name in ("contrast", "saturation", "colourfulness", "left_right", "up_down", "noise"):
        assert measured[name] == pytest.approx(0, abs=1e-4), name


def test_cast_counts_as_saturation_but_not_as_colourfulness():
    measured = picture_light(np.full((32, 32, 3), (80, 100, 120), np.uint8))
    assert measured["saturation"] == pytest.approx(40 / 120)
    assert measured["colourfulness"] == pytest.approx(0, abs=1e-3)
    assert (measured["red_green"], measured["blue_green"]) == pytest.approx((0.8, 1.2))


def test_bright_left_and_top():
    picture = np.full((32, 32, 3), 50, np.uint8)
    picture[:, :16] = 150
    measured = picture_light(picture)
    assert measured["left_right"] == pytest.approx(1.0)
    assert measured["contrast"] == pytest.approx(50)
    assert picture_light(picture.transpose(1, 0, 2))["up_down"] == pytest.approx(1.0)


def test_noise_is_recovered():
    gen = np.random.Generator(np.random.Philox(1))
    picture = np.clip(128 + 3 * gen.standard_normal((240, 320, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)
    assert picture_light(picture)["noise"] == pytest.approx(3, rel=0.15)


def test_class_colours_are_means_and_absent_classes_nan():
    picture, labels = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8)
    labels[:, 10:] = 2
    picture[:, 10:15], picture[:, 15:] = (10, 20, 30), (30, 40, 50)
    colours = class_colours(picture, labels, 3)
    np.testing.assert_allclose(colours[[0, 2]], [[0, 0, 0], [20, 30, 40]])
    assert np.isnan(colours[1]).all()


def test_raw_probe_separates_what_is_separable():
    """Class by colour on the left, by place on the right: both linear in (r, g, b, x, y)."""
    labels = np.zeros((40, 40), np.uint8)
    labels[20:], labels[:, :4] = 1, 9
    picture = np.full((40, 40, 3), 128, np.uint8)
    features, classes = raw_features([(picture, labels)], 2, step=1)
    assert features.shape == (40 * 36, 5)
    np.testing.assert_allclose(class_ious(fit_softmax(features, classes, 2), features, classes), 1)


def test_ious_by_hand():
    """A probe that always says class 0: of 4 pixels 3 are."""
    weights = np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    ious = class_ious(weights, np.zeros((4, 1)), np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(ious, [0.75, 0, np.nan])

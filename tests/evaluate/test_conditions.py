import cv2
import numpy as np
import pytest
from sharding import blobs

from vice.evaluate.conditions import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    SATURATION,
    Light,
    change_light,
    draw_light,
    under,
)
from vice.evaluate.names import CHANGED_LIGHT, CLEAN


@pytest.fixture
def picture() -> np.ndarray:
    return blobs(64, 48, seed=3)


def test_neutral_light_changes_no_value(picture):
    np.testing.assert_array_equal(change_light(picture, Light()), picture)


def test_all_grey_levels_and_pure_colours_survive_neutral_light():
    values = np.arange(256, dtype=np.uint8)
    table = np.zeros((4, 256, 3), np.uint8)
    table[0] = values[:, None]
    for channel in range(3):
        table[channel + 1, :, channel] = values
    np.testing.assert_array_equal(change_light(table, Light()), table)


def test_clean_is_the_picture_itself(picture):
    assert under(CLEAN, picture, seed=0, number=5) is picture


def test_light_is_a_function_of_seed_and_number(picture):
    first = under(CHANGED_LIGHT, picture, seed=0, number=5)
    np.testing.assert_array_equal(first, under(CHANGED_LIGHT, picture, seed=0, number=5))
    assert (first != under(CHANGED_LIGHT, picture, seed=0, number=6)).any()
    assert (first != under(CHANGED_LIGHT, picture, seed=1, number=5)).any()


def test_drawn_light_fills_its_ranges():
    lights = np.array([draw_light(0, number) for number in range(400)])
    for column, (low, high) in zip(lights.T, (BRIGHTNESS, CONTRAST, SATURATION, HUE), strict=True):
        assert low <= column.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < column.max() <= high


def test_brightness_is_a_factor():
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert (change_light(grey, Light(brightness=0.6)) == 60).all()
    assert (change_light(grey, Light(brightness=3.0)) == 255).all()


def test_contrast_keeps_the_mean_luma_and_scales_the_distance_to_it():
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0], picture[1] = 100, 140
    np.testing.assert_array_equal(change_light(picture, Light(contrast=0.5))[:, 0, 0], [110, 130])


def test_saturation_zero_is_luma():
    picture = np.array([[[200, 100, 50]]], np.uint8)
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert (change_light(picture, Light(saturation=0.0)) == luma).all()


def test_hue_is_a_share_of_the_circle():
    red = np.array([[[255, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(change_light(red, Light(hue=1 / 3))[0, 0], [0, 255, 0])
    np.testing.assert_array_equal(change_light(red, Light(hue=-1 / 3))[0, 0], [0, 0, 255])


def test_changed_light_moves_colours_but_not_edges(picture):
    changed = change_light(picture, Light(brightness=1.2, contrast=0.9, saturation=0.9, hue=0.03))
    assert np.abs(changed.astype(int) - picture).mean() > 5
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(float) for p in (picture, changed)]
    assert np.corrcoef(grey[0].ravel(), grey[1].ravel())[0, 1] > 0.95

import cv2
import numpy as np
import pytest
from sharding import blobs

from vice.data_specs.errors import InputError
from vice.evaluate.conditions import (
    BRIGHTNESS,
    CHANGES,
    CONTRAST,
    HUE,
    NOISE,
    SATURATION,
    Light,
    change_light,
    chosen,
    draw_light,
    settings_of,
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


def test_every_change_is_a_function_of_seed_and_number_and_changes_something():
    picture = blobs(320, 240, seed=3)
    for name in chosen(["all"]):
        first, again = (under(name, picture, seed=2, number=3) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert first.dtype == np.uint8
        assert (name == CLEAN) == (first.shape == picture.shape and (first == picture).all()), name


def test_a_part_of_the_light_has_the_strength_it_has_in_the_whole(picture):
    light = draw_light(4, 9)
    expected = change_light(picture, Light(saturation=light.saturation, hue=light.hue))
    np.testing.assert_array_equal(under("colour", picture, seed=4, number=9), expected)


def test_noise_has_the_stated_deviation():
    grey = np.full((200, 300, 3), 128, np.uint8)
    values = under("noise", grey, seed=0, number=1).astype(float) / 255
    assert values.std() == pytest.approx(NOISE, rel=0.02)
    assert values.mean() == pytest.approx(128 / 255, abs=0.001)
    assert abs(np.corrcoef(values[..., 0].ravel(), values[..., 1].ravel())[0, 1]) < 0.02


def test_blur_grows_with_the_picture_and_half_size_halves_both_sides():
    edge = np.zeros((240, 240, 3), np.uint8)
    edge[:, 120:] = 255
    profile = under("blur", edge, seed=0, number=0)[120, :, 0] / 255
    # a Gaussian of one pixel: the values beside the edge are its integral there
    np.testing.assert_allclose(profile[118:122], [0.067, 0.309, 0.691, 0.933], atol=0.02)
    assert under("half size", edge[:, :101], seed=0, number=0).shape == (120, 50, 3)


def test_conditions_that_are_asked_for():
    assert chosen([]) == (CLEAN,)
    assert chosen(["blur", CLEAN, "blur"]) == (CLEAN, "blur")
    assert chosen(["all"]) == tuple(CHANGES)
    assert set(settings_of(chosen(["all"]), 3)) == {"seed", *CHANGES}
    with pytest.raises(InputError, match="no such condition: fog; choose from all, clean, changed light"):
        chosen(["fog"])

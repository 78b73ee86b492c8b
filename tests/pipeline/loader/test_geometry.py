"""Geometry: crops of any picture lie inside it, are squares of the drawn size, and share a rectangle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vice.pipeline.loader.counters import uniforms
from vice.pipeline.loader.geometry import num_uniforms, place_views
from vice.pipeline.loader.settings import ViewSettings

STRIDE = 4


def place(width, height, view_settings, sample, density=None):
    if density is None:
        density = np.ones((-(-height // STRIDE), -(-width // STRIDE)), np.uint8)
    draws = uniforms(0, "geometry", 0, sample, num_uniforms(view_settings.num_views))
    return place_views(width, height, density, STRIDE, draws, view_settings)


@settings(max_examples=300, deadline=None)
@given(
    width=st.integers(32, 4096),
    height=st.integers(32, 2048),
    num_views=st.integers(1, 8),
    size=st.sampled_from([32, 96, 256, 512]),
    region=st.sampled_from(["slic:10", "slic:20", "grid:40", "pixel"]),
    sample=st.integers(0, 1000),
)
def test_crops_lie_inside_and_share_a_rectangle(width, height, num_views, size, region, sample):
    view_settings = ViewSettings(num_views=num_views, size=size, regions=region)
    boxes = place(width, height, view_settings, sample)
    short = min(width, height)
    assert (boxes.left >= 0).all() and (boxes.left + boxes.side <= width).all()
    assert (boxes.top >= 0).all() and (boxes.top + boxes.side <= height).all()
    assert (boxes.side <= short).all() and (boxes.side >= min(short, size // 2)).all()
    left, top, right, bottom = boxes.common()
    # as large as two regions, unless the smallest view is smaller (rounding moves centred crops by a pixel)
    wanted = min(2 * view_settings.region_size, int(boxes.side.min()) - 1)
    assert min(right - left, bottom - top) >= wanted


def test_sides_follow_the_resize_coefficient():
    # views this large always share enough, so nothing is redrawn
    view_settings = ViewSettings(num_views=5, size=96, resize=(1.5, 2.0))
    sides = np.concatenate([place(2000, 1500, view_settings, sample).side for sample in range(400)])
    assert sides.min() >= 144 and sides.max() <= 192
    # uniform in 144..192: mean 168, standard error 13.9 / sqrt(2000)
    assert abs(sides.mean() - 168) < 4 * 13.9 / np.sqrt(2000)


def test_the_first_view_lies_where_the_density_is():
    density = np.zeros((100, 150), np.uint8)
    density[40:42, 70:72] = 255
    view_settings = ViewSettings(num_views=4, size=96)
    for sample in range(50):
        boxes = place(600, 400, view_settings, sample, density)
        x, y = boxes.left[0] + boxes.side[0] / 2, boxes.top[0] + boxes.side[0] / 2
        assert 70 * 4 - 1 <= x <= 72 * 4 + 1
        assert 40 * 4 - 1 <= y <= 42 * 4 + 1 or boxes.side[0] > 2 * 160


def test_other_views_are_one_per_sector_at_most_half_a_view_away():
    view_settings = ViewSettings(num_views=5, size=128, resize=(1.0, 1.0))
    density = np.zeros((250, 250), np.uint8)
    density[125, 125] = 1
    for sample in range(100):
        boxes = place(1000, 1000, view_settings, sample, density)
        offset = np.stack([boxes.left - boxes.left[0], boxes.top - boxes.top[0]])[:, 1:]
        assert np.hypot(*offset).max() <= 64 + 1.5
        order = np.sort(np.arctan2(offset[1], offset[0])) if np.hypot(*offset).min() > 12 else None
        if order is not None:
            gaps = np.diff(np.concatenate([order, order[:1] + 2 * np.pi]))
            # four sectors of a quarter turn: neighbours are never more than two sectors apart
            assert gaps.max() <= np.pi + 0.3


@pytest.mark.parametrize(("width", "height"), [(32, 32), (40, 700), (1, 1)])
def test_tiny_and_thin_pictures_work_as_they_are(width, height):
    boxes = place(width, height, ViewSettings(num_views=3, size=96), 0)
    assert (boxes.side == min(width, height, 48)).all() or boxes.side.max() <= min(width, height)


def test_an_empty_density_falls_back_to_the_whole_picture():
    boxes = [
        place(400, 300, ViewSettings(num_views=2, size=32), sample, np.zeros((75, 100), np.uint8))
        for sample in range(60)
    ]
    centres = np.array([box.left[0] + box.side[0] / 2 for box in boxes])
    assert centres.min() < 100 and centres.max() > 300

"""Pictures and region maps through the same geometry, to the pixel: shown with region maps sent through as pictures."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.data_specs.regions import IGNORE
from vice.pipeline.loader.dali_graph import plan_arrays, views_graph
from vice.pipeline.loader.dali_reader import DaliReader
from vice.pipeline.loader.grid import grid_ids, grid_lines
from vice.pipeline.loader.order import SampleOrder, Visit
from vice.pipeline.loader.plan import plan_views
from vice.pipeline.loader.reference import view_ids
from vice.pipeline.loader.settings import AppearanceSettings, ViewSettings
from vice.pipeline.loader.source import PlannedSample

PLAIN_LOOKS = AppearanceSettings(jitter_probability=0, grey_probability=0, blur_probability=0)


def plan_for(width, height, view_settings, sample=0):
    density = np.ones((-(-height // 4), -(-width // 4)), np.uint8)
    return plan_views(width, height, density, 4, settings=view_settings, seed=0, visit=Visit(0, sample))


def as_levels(images):
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    return (images * std + mean) * 255


def through_the_graph(pictures, maps, plans, view_settings):
    """Views of pictures (nearest pixel) and of maps from the DALI graph: int [m, n, 3, s, s], [m, n, s, s]."""
    encode = lambda array: np.frombuffer(cv2.imencode(".png", array)[1], np.uint8)  # noqa: E731
    arrays = zip(*map(plan_arrays, plans), strict=True)
    given = ([encode(picture[..., ::-1]) for picture in pictures], [encode(ids) for ids in maps], *map(list, arrays))
    graph = views_graph(
        lambda: given,
        num_views=view_settings.num_views,
        size=view_settings.size,
        on_gpu=False,
        stored_regions=True,
        layout="CHW",
        nearest=True,
        batch_size=len(plans),
        num_threads=2,
        device_id=None,
    )
    outputs = [np.array(output.as_tensor()) for output in graph.run()]
    images, regions = outputs[: view_settings.num_views], outputs[view_settings.num_views :]
    return np.rint(as_levels(np.stack(images))).astype(int), np.stack(regions).squeeze(-1)


SIZES = [(32, 32), (33, 47), (640, 480), (480, 640), (1021, 97), (2048, 1024)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_region_map_sent_through_as_the_picture_comes_out_as_the_region_map(width, height):
    view_settings = ViewSettings(num_views=8, size=96, regions="slic:20", mask_share=0, appearance=PLAIN_LOOKS)
    # every pixel an id of its own (modulo 16 bits), so that a shift by one pixel anywhere shows
    ids = np.random.Generator(np.random.Philox(key=0)).permutation(width * height).reshape(height, width) % 65536
    picture = np.stack([ids >> 8, ids & 255, np.zeros_like(ids)], axis=-1).astype(np.uint8)
    plans = [plan_for(width, height, view_settings, sample) for sample in range(6)]
    images, regions = through_the_graph([picture] * 6, [ids.astype(np.uint16)] * 6, plans, view_settings)
    assert np.array_equal(images[:, :, 0] * 256 + images[:, :, 1], regions)
    flips = np.stack([plan.flip for plan in plans])
    assert flips.any() and not flips.all()
    for sample, plan in enumerate(plans):
        for view in range(8):
            assert np.array_equal(regions[view, sample], view_ids(ids, plan, view, 96))


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(32, 4096),
    height=st.integers(32, 2048),
    cell=st.integers(1, 64),
    sample=st.integers(0, 1000),
)
def test_grid_cells_of_a_view_are_those_of_the_picture_s_map(width, height, cell, sample):
    view_settings = ViewSettings(num_views=3, size=64, regions=f"grid:{cell}" if cell > 1 else "pixel")
    plan = plan_for(width, height, view_settings, sample)
    (rows, columns), ids = grid_lines(width, cell, plan, 64), grid_ids(width, height, cell)
    for view in range(3):
        assert np.array_equal(rows[view][:, None] + columns[view], view_ids(ids, plan, view, 64))


class Drawn:
    """One drawn picture of coloured cells whose region map is the cells: what a view shows must be its own ids."""

    def __init__(self, view_settings, *, cell):
        rng = np.random.default_rng(0)
        rows, columns = 240 // cell, 320 // cell
        self.colours = rng.integers(0, 256, (rows * columns, 3)).astype(np.uint8)
        self.ids = np.kron(np.arange(rows * columns).reshape(rows, columns), np.ones((cell, cell))).astype(np.uint16)
        self.picture = self.colours[self.ids]
        self.settings, self.order = view_settings, SampleOrder(1, global_batch=1, seed=0)
        self.keys = ["drawn"]

    @property
    def shards(self):
        return self

    def steps(self, first_step, every=1):
        encoded = [cv2.imencode(".png", array)[1].tobytes() for array in (self.picture[..., ::-1], self.ids)]
        while True:
            yield [PlannedSample(0, *encoded, plan_for(320, 240, self.settings, first_step))]
            first_step += every


def batches(source, count):
    reader = DaliReader(source, torch.device("cpu"), 2).batches(0)
    return [next(reader) for _ in range(count)]


def test_filtered_pictures_show_their_own_regions_away_from_borders():
    view_settings = ViewSettings(num_views=4, size=64, regions="slic:20", mask_share=0, appearance=PLAIN_LOOKS)
    source = Drawn(view_settings, cell=16)
    compared = 0
    for batch in batches(source, 20):
        ids = torch.where(batch.regions == IGNORE, -1, batch.regions).long()
        stored = batch.region_ids[0][ids.clamp_min(0)]
        expected = torch.from_numpy(source.colours)[stored].movedim(-1, 2)
        # away from a border the linear filter (reach: 2 view pixels) sees one colour only
        inside = ids >= 0
        for shift in [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]:
            inside &= ids == torch.roll(ids, shift, (2, 3))
        inside[..., :2, :] = inside[..., -2:, :] = inside[..., :2] = inside[..., -2:] = False
        difference = np.abs(as_levels(batch.images.numpy()) - expected.numpy()).max(2)
        assert difference[inside.numpy()].max() < 0.01
        compared += int(inside.sum())
    assert compared > 50_000


def test_a_view_at_scale_one_is_a_plain_crop():
    view_settings = ViewSettings(
        num_views=3, size=64, resize=(1.0, 1.0), regions="slic:20", mask_share=0, appearance=PLAIN_LOOKS
    )
    source = Drawn(view_settings, cell=4)
    for step, batch in enumerate(batches(source, 5)):
        plan = plan_for(320, 240, view_settings, step)
        for view in range(3):
            left, top = int(plan.boxes.left[view]), int(plan.boxes.top[view])
            crop = source.picture[top : top + 64, left : left + 64]
            crop = crop[:, ::-1] if plan.flip[view] else crop
            shown = np.rint(as_levels(batch.images[view, 0].numpy())).astype(np.uint8).transpose(1, 2, 0)
            assert np.array_equal(shown, crop)

"""Both readers over real shards: the same batch; regions aligned with pictures; exact resumption; damage is named."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.data_specs.regions import IGNORE
from vice.pipeline.loader.dali_reader import DaliReader
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.order import SampleOrder, Visit
from vice.pipeline.loader.plan import plan_views
from vice.pipeline.loader.settings import AppearanceSettings, ViewSettings
from vice.pipeline.loader.source import PlannedSample
from vice.pipeline.shards import Shards

PLAIN_LOOKS = AppearanceSettings(jitter_probability=0, grey_probability=0, blur_probability=0)


def loader(shards, reader="dali", *, batch=4, rank=0, world_size=1, **views):
    settings = ViewSettings(**{"num_views": 3, "size": 64, "regions": "slic:12", **views})
    return ViewLoader(Shards(shards), settings, global_batch=batch, reader=reader, rank=rank, world_size=world_size)


@pytest.mark.parametrize("layer", ["slic:12", "slic:20", "grid:16", "pixel"])
def test_both_readers_give_the_same_batch(scene_shards, layer):
    for dali, plain in zip(
        take(loader(scene_shards["train"], regions=layer), 3),
        take(loader(scene_shards["train"], "plain", regions=layer), 3),
        strict=True,
    ):
        assert dali.keys == plain.keys
        assert torch.equal(dali.regions, plain.regions)
        assert torch.equal(dali.num_regions, plain.num_regions)
        assert torch.equal(dali.region_ids, plain.region_ids)
        assert torch.equal(dali.masked, plain.masked)
        # pictures pass through rounding to 8 bits three times (resize, colour, blur); a level is at most 1/57
        levels = (dali.images - plain.images).abs() * 255 * torch.tensor(IMAGE_STD)[:, None, None]
        assert levels.max() <= 5
        assert levels.mean() < 0.1
        assert torch.equal(
            dali.images[dali.masked[:, :, None].expand_as(dali.images)], plain.images[masked_values(plain)]
        )


def masked_values(batch):
    return batch.masked[:, :, None].expand_as(batch.images)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_regions_are_mutual_dense_and_the_stored_ones(scene_shards):
    shards = Shards(scene_shards["train"])
    batch = next(loader(scene_shards["train"], min_region_pixels=5))
    for place, key in enumerate(batch.keys):
        count = int(batch.num_regions[place])
        stored = set(np.unique(shards.sample(shards.keys.index(key)).regions["slic12"]).tolist())
        assert set(batch.region_ids[place, :count].tolist()) <= stored
        assert (batch.region_ids[place, count:] == -1).all()
        for view in batch.regions[:, place]:
            ids, pixels = torch.unique(view[view != IGNORE], return_counts=True)
            assert ids.tolist() == list(range(count))
            assert count == 0 or pixels.min() >= 5


def test_most_regions_are_kept_at_random_but_never_more_than_asked(scene_shards):
    many, few = (next(loader(scene_shards["train"], max_regions=most)) for most in (4096, 6))
    assert (few.num_regions == many.num_regions.clamp_max(6)).all()
    kept, all_ids = few.region_ids[0, :6], many.region_ids[0, : many.num_regions[0]]
    assert torch.isin(kept, all_ids).all()
    assert not torch.equal(kept, all_ids[:6])


def test_masking_covers_whole_regions_within_its_share_with_uniform_noise(scene_shards):
    settings = {"regions": "grid:8", "mask_share": 0.25}
    batches = take(loader(scene_shards["train"], **settings), 4)
    share = torch.cat([batch.masked.float().mean((2, 3)).flatten() for batch in batches])
    assert share.max() <= 0.25
    # shares are uniform in [0, 0.25], less what does not fill a whole cell
    assert 0.05 < share.mean() < 0.15
    for batch in batches:
        for view, masked in zip(batch.regions.flatten(0, 1), batch.masked.flatten(0, 1), strict=True):
            hidden = torch.unique(view[masked & (view != IGNORE)])
            assert masked[torch.isin(view, hidden)].all()
    noise = torch.cat([batch.images.movedim(2, -1)[batch.masked].flatten() for batch in batches])
    assert noise.min() >= -1 and noise.max() < 1
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 3**-0.5) < 0.02


def test_no_masking_where_it_is_off(scene_shards):
    assert not next(loader(scene_shards["train"], mask_share=0)).masked.any()


class DrawnSource:
    """One drawn picture of coloured cells whose region map is the cells: what a view shows must be its own ids."""

    def __init__(self, settings, *, cell):
        rng = np.random.default_rng(0)
        rows, columns = 240 // cell, 320 // cell
        colours = rng.integers(0, 256, (rows * columns, 3)).astype(np.uint8)
        self.ids = np.kron(np.arange(rows * columns).reshape(rows, columns), np.ones((cell, cell))).astype(np.uint16)
        self.picture = colours[self.ids]
        self.colours, self.settings = colours, settings
        self.order = SampleOrder(1, global_batch=1, seed=0)
        self.shards = SimpleNamespace(keys=["drawn"])

    def step(self, step):
        density = np.ones((60, 80), np.uint8)
        plan = plan_views(320, 240, density, 4, settings=self.settings, seed=0, visit=Visit(step, 0))
        encoded = [cv2.imencode(".png", array)[1].tobytes() for array in (self.picture[..., ::-1], self.ids)]
        return [PlannedSample(0, *encoded, plan)]


def as_levels(images):
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    return (images * std + mean) * 255


def test_regions_follow_their_picture_through_all_geometry():
    settings = ViewSettings(num_views=4, size=64, regions="slic:20", mask_share=0, appearance=PLAIN_LOOKS)
    source = DrawnSource(settings, cell=16)
    steps = DaliReader(source, torch.device("cpu"), 2).batches(0)
    compared = 0
    for batch in take(steps, 20):
        ids = torch.where(batch.regions == IGNORE, -1, batch.regions).long()
        stored = batch.region_ids[0][ids.clamp_min(0)]
        expected = torch.from_numpy(source.colours)[stored].movedim(-1, 2)
        # away from a border the linear filter (reach: 2 view pixels) sees one colour only
        inside = ids >= 0
        for shift in [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]:
            inside &= ids == torch.roll(ids, shift, (2, 3))
        inside[..., :2, :] = inside[..., -2:, :] = inside[..., :2] = inside[..., -2:] = False
        difference = (as_levels(batch.images) - expected).abs().amax(2)
        assert difference[inside].max() < 0.6
        compared += int(inside.sum())
    assert compared > 50_000


def test_a_view_at_scale_one_is_a_plain_crop():
    settings = ViewSettings(
        num_views=3, size=64, resize=(1.0, 1.0), regions="slic:20", mask_share=0, appearance=PLAIN_LOOKS
    )
    source = DrawnSource(settings, cell=4)
    for step, batch in enumerate(take(DaliReader(source, torch.device("cpu"), 2).batches(0), 5)):
        plan = source.step(step)[0].plan
        for view in range(3):
            left, top = int(plan.boxes.left[view]), int(plan.boxes.top[view])
            crop = source.picture[top : top + 64, left : left + 64]
            crop = crop[:, ::-1] if plan.flip[view] else crop
            shown = as_levels(batch.images[view, 0]).round().to(torch.uint8).movedim(0, -1).numpy()
            assert np.array_equal(shown, crop)


def test_resuming_gives_the_exact_next_batches(scene_shards):
    whole = take(loader(scene_shards["train"]), 6)
    first = loader(scene_shards["train"])
    take(first, 2)
    second = loader(scene_shards["train"])
    second.load_state_dict(first.state_dict())
    for expected, got in zip(whole[2:], take(second, 4), strict=True):
        assert expected.keys == got.keys
        assert torch.equal(expected.images, got.images) and torch.equal(expected.regions, got.regions)


def test_two_processes_together_see_what_one_sees(scene_shards):
    one = take(loader(scene_shards["train"]), 3)
    ranks = [take(loader(scene_shards["train"], rank=rank, world_size=2), 3) for rank in range(2)]
    for step, batch in enumerate(one):
        for place in range(4):
            part = ranks[place % 2][step]
            assert part.keys[place // 2] == batch.keys[place]
            assert torch.equal(part.images[:, place // 2], batch.images[:, place])


def test_other_data_or_settings_are_refused_with_the_difference(scene_shards):
    state = loader(scene_shards["train"]).state_dict()
    with pytest.raises(InputError, match=r"views.size: 64 -> 32"):
        loader(scene_shards["train"], size=32).load_state_dict(state)
    with pytest.raises(InputError, match="shards: "):
        loader(scene_shards["val"]).load_state_dict(state)


def test_an_unknown_layer_is_refused_with_those_there_are(scene_shards):
    with pytest.raises(InputError, match=r"no region layer 'slic:33'.*stored: slic:12, slic:20"):
        loader(scene_shards["train"], regions="slic:33")


@pytest.mark.parametrize("reader", ["dali", "plain"])
def test_a_shard_damaged_later_names_shard_and_key(scene_shards, tmp_path, reader):
    import shutil

    copy = tmp_path / "damaged"
    shutil.copytree(scene_shards["train"], copy)
    tar = copy / "shards" / "train-000001.tar"
    data = bytearray(tar.read_bytes())
    offset, _ = Shards(copy)._places("train-000001.tar")[2]["jpg"]
    data[offset : offset + 400] = bytes(400)
    tar.write_bytes(data)
    with pytest.raises(WorkError, match=r"train-000001\.tar, key train-0000000[0-9]"):
        take(loader(copy, reader, batch=2), 6)


def test_one_picture_and_fewer_shards_than_processes_work(tmp_path, scene_shards):
    order = SampleOrder(1, global_batch=4, seed=0, rank=3, world_size=4)
    assert [order.visits(step) for step in range(2)] == [[Visit(3, 0)], [Visit(7, 0)]]
    assert len(next(loader(scene_shards["train"], batch=8, rank=7, world_size=8)).keys) == 1

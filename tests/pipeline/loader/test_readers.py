"""Both readers over real shards: the same batch, mutual regions, masking, types, exact resumption."""

import threading

import numpy as np
import pytest
import torch
from photographs import photographs
from sharding import shard_serially

from vice.data_specs.errors import InputError
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.data_specs.regions import IGNORE
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.loader.batch import FLOAT32, BatchFormat
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.settings import AppearanceSettings, ViewSettings
from vice.pipeline.shards import Shards


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
        levels = (dali.images - plain.images).abs() * 255 * torch.tensor(IMAGE_STD)[:, None, None]
        # at a tie the resize may round to another of 256 levels; colour and contrast make that larger
        assert levels.mean() < 0.005 and levels.max() <= 8
        assert torch.equal(dali.images[masked_values(plain)], plain.images[masked_values(plain)])


@pytest.mark.parametrize("settings", [{"jitter_probability": 1.0}, {"blur_probability": 1.0}, {}])
def test_both_readers_give_the_same_appearance(scene_shards, settings):
    never = {"jitter_probability": 0.0, "grey_probability": 0.0, "blur_probability": 0.0}
    looks = {"appearance": AppearanceSettings(**(never | settings)), "mask_share": 0}
    for dali, plain in zip(
        take(loader(scene_shards["train"], **looks), 3),
        take(loader(scene_shards["train"], "plain", **looks), 3),
        strict=True,
    ):
        levels = (dali.images - plain.images).abs() * 255 * torch.tensor(IMAGE_STD)[:, None, None]
        assert levels.mean() < 0.005 and levels.max() <= (8 if "jitter_probability" in settings else 1.001)


def test_views_stay_in_the_range_of_pictures(scene_shards):
    looks = AppearanceSettings(jitter_probability=1.0, brightness=1.0, contrast=1.0, saturation=1.0)
    for reader in ("dali", "plain"):
        images = next(loader(scene_shards["train"], reader, appearance=looks, mask_share=0)).images
        mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
        levels = images * std + mean
        assert levels.min() >= -1e-6 and levels.max() <= 1 + 1e-6
        # so strong that both ends are reached
        assert (levels < 1e-3).any() and (levels > 1 - 1e-3).any()


@pytest.mark.parametrize("reader", ["dali", "plain"])
def test_other_types_and_layouts_hold_the_same_views(scene_shards, reader):
    shards = Shards(scene_shards["train"])
    view_settings = ViewSettings(num_views=3, size=64, regions="slic:12")
    plain, other = (
        next(ViewLoader(shards, view_settings, global_batch=4, reader=reader, batch_format=batch_format))
        for batch_format in (FLOAT32, BatchFormat(torch.bfloat16, channels_last=True))
    )
    assert other.images.dtype == torch.bfloat16 and other.images.shape == plain.images.shape
    assert other.images.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    # bfloat16 has 8 bits: a value is off by at most 2^-9 of itself; the range's ends are rounded as well
    torch.testing.assert_close(other.images.float(), plain.images, rtol=2**-8, atol=2**-9)
    assert torch.equal(other.regions, plain.regions) and torch.equal(other.masked, plain.masked)


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


def test_memory_is_used_again_only_once_nobody_has_the_batch(scene_shards):
    loaded = loader(scene_shards["train"])
    first = next(loaded)
    kept, copy = first.images[1, 0], first.images[1, 0].clone()
    del first
    places = set()
    for _ in range(12):
        places.add(next(loaded).images.data_ptr())
    assert torch.equal(kept, copy)
    # 12 batches, but in few places: they were given back
    assert len(places) < 8


def test_the_process_s_threads_of_torch_are_left_as_they_are(scene_shards):
    before = torch.get_num_threads()
    next(loader(scene_shards["train"]))
    told = []
    thread = threading.Thread(target=lambda: told.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *told] == [before, before]


@pytest.mark.photographs
def test_both_readers_agree_on_photographs(tmp_path):
    (tmp_path / "source").mkdir()
    for folder, num in ((photographs("coco_stuff", "train", "images"), 4), (photographs("cityscapes"), 2)):
        for path in sorted(folder.rglob("*.jpg"))[:num]:
            (tmp_path / "source" / path.name).symlink_to(path.resolve())
    shard_serially(tmp_path / "source", tmp_path / "out", PrepSettings())
    several = (take(loader(tmp_path / "out", reader, regions="slic:20", size=128), 3) for reader in ("dali", "plain"))
    for dali, plain in zip(*several, strict=True):
        assert dali.num_regions.max() > 0
        for field in ("regions", "num_regions", "region_ids", "masked"):
            assert torch.equal(getattr(dali, field), getattr(plain, field)), field
        levels = (dali.images - plain.images).abs() * 255 * torch.tensor(IMAGE_STD)[:, None, None]
        assert levels.mean() < 0.005 and levels.max() <= 8

"""The graph on a GPU against the same graph on the CPU: regions, masks and noise to the bit, pictures nearly."""

import pytest
import torch
from region_vectors import make_vectors
from sharding import blobs, jpeg, png, shard_serially

from vice.data_specs.pictures import IMAGE_STD
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.loader.batch import BatchFormat
from vice.pipeline.loader.loader import ViewLoader
from vice.pipeline.loader.settings import AppearanceSettings, ViewSettings
from vice.pipeline.shards import Shards

pytestmark = pytest.mark.gpu

SIZES = [(640, 480), (480, 640), (333, 257), (64, 700), (1024, 512)]
PLAIN_LOOKS = AppearanceSettings(jitter_probability=0, grey_probability=0, blur_probability=0)


@pytest.fixture(scope="module", params=["jpeg", "png"])
def shards(request, tmp_path_factory):
    """Shards of smooth pictures of many sizes, stored as JPEG or as PNG, which all decoders read alike."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "source").mkdir()
    encode, suffix = (jpeg, "jpg") if request.param == "jpeg" else (png, "png")
    for number, (width, height) in enumerate(SIZES * 2):
        (folder / "source" / f"{number}.{suffix}").write_bytes(encode(blobs(width, height, number)))
    settings = PrepSettings(picture=request.param, regions=[RegionLayer(method="slic", size=12)])
    shard_serially(folder / "source", folder / "out", settings)
    return Shards(folder / "out")


def batches(shards, device, *, num=5, batch_format=None, teacher=None, **views):
    view_settings = ViewSettings(**{"num_views": 4, "size": 96, "regions": "slic:12", **views})
    formats = {} if batch_format is None else {"batch_format": batch_format}
    loaded = ViewLoader(shards, view_settings, global_batch=4, device=device, teacher=teacher, **formats)
    return [next(loaded) for _ in range(num)]


@pytest.mark.parametrize("layer", ["slic:12", "grid:16", "pixel"])
@pytest.mark.parametrize("looks", [PLAIN_LOOKS, AppearanceSettings()])
def test_both_devices_give_the_same_batch(shards, layer, looks):
    several = (batches(shards, device, regions=layer, appearance=looks) for device in ("cuda", "cpu"))
    for gpu, cpu in zip(*several, strict=True):
        assert gpu.images.is_cuda and gpu.regions.is_cuda
        assert gpu.keys == cpu.keys
        for field in ("regions", "num_regions", "region_ids", "masked"):
            assert torch.equal(getattr(gpu, field).cpu(), getattr(cpu, field)), field
        hidden = cpu.masked[:, :, None].expand_as(cpu.images)
        assert torch.equal(gpu.images.cpu()[hidden], cpu.images[hidden])
        levels = (gpu.images.cpu() - cpu.images).abs() * 255 * torch.tensor(IMAGE_STD)[:, None, None]
        # JPEG decoders round differently; colour distortion may triple a level
        assert levels.mean() < 1.0


@pytest.mark.parametrize("shards", ["png"], indirect=True)
def test_a_teacher_s_vectors_are_the_same_on_both_devices(shards, tmp_path):
    teacher = make_vectors(shards, "slic:12", tmp_path / "out")
    several = (batches(shards, device, num_views=1, teacher=teacher) for device in ("cuda", "cpu"))
    for gpu, cpu in zip(*several, strict=True):
        assert gpu.teacher.is_cuda and cpu.num_regions.max() > 0
        assert torch.equal(gpu.teacher.cpu(), cpu.teacher)


@pytest.mark.parametrize("shards", ["png"], indirect=True)
def test_views_of_lossless_pictures_differ_by_rounding_only(shards):
    several = (batches(shards, device, appearance=PLAIN_LOOKS, mask_share=0) for device in ("cuda", "cpu"))
    for gpu, cpu in zip(*several, strict=True):
        levels = (gpu.images.cpu() - cpu.images).abs() * 255 * torch.tensor(IMAGE_STD)[:, None, None]
        assert levels.max() < 1.01 and levels.mean() < 0.02


def test_batches_are_whole_while_the_gpu_is_busy(shards):
    """Batches are made on a stream of their own; nobody may see half of one, or one overwritten by the next."""
    quiet = batches(shards, "cuda", num=12)
    busy = ViewLoader(shards, ViewSettings(num_views=4, size=96, regions="slic:12"), global_batch=4, device="cuda")
    load = torch.randn(2048, 2048, device="cuda")
    for expected in quiet:
        for _ in range(20):
            load = (load @ load).clamp(-1, 1)
        got = next(busy)
        assert torch.equal(got.images, expected.images) and torch.equal(got.regions, expected.regions)
        del got


def test_bfloat16_and_channels_last_on_the_gpu(shards):
    (plain,), (other,) = (
        batches(shards, "cuda", num=1, batch_format=batch_format)
        for batch_format in (None, BatchFormat(torch.bfloat16, channels_last=True))
    )
    assert other.images.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(other.images.float(), plain.images, rtol=2**-8, atol=2**-9)

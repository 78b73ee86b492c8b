"""Region layers: every id used, every region one piece, sizes as asked; what cannot be stored is refused."""

import cv2
import numpy as np
import pytest
from photographs import photographs
from scipy import ndimage
from sharding import blobs

from vice.data_specs.regions import RegionLayer
from vice.pipeline.prep import regions
from vice.pipeline.prep.regions import region_map
from vice.pipeline.prep.rejection import Rejected
from vice.pipeline.superpixels.pieces import count_pieces


def layer(text):
    return RegionLayer.from_text(text)


def check(ids, size):
    """Every id of 0..R-1 is there, is one 4-connected piece, and is no fragment."""
    count = int(ids.max()) + 1
    areas = np.bincount(ids.ravel())
    assert ids.dtype == np.uint16 and (areas > 0).all()
    boxes = ndimage.find_objects(ids.astype(np.int32) + 1)
    pieces = [ndimage.label(ids[box] == region)[1] for region, box in enumerate(boxes)]
    assert pieces == [1] * count
    if count > 1:
        assert areas.min() >= size**2 / 4
    return areas


def check_numbers(ids):
    """Every id of 0..R-1 is there, as 16 bits hold them, and there are no more pieces than ids."""
    count = int(ids.max()) + 1
    assert ids.dtype == np.uint16 and count <= 65535
    assert count_pieces(ids) == count and (np.bincount(ids.ravel()) > 0).all()


@pytest.mark.parametrize(
    "text", ["slic:10", "slic:20,ruler=2,iterations=3", "slico:12", "mslic:20", "slic:48", "opencv-slic:20"]
)
@pytest.mark.parametrize("size", [(160, 120), (49, 131)])
def test_regions_are_whole_and_numbered_without_gaps(text, size):
    ids = region_map(blobs(*size, 1), layer(text))
    assert ids.shape == size[::-1]
    check(ids, layer(text).size)
    first = np.unique(ids, return_index=True)[1]
    assert (np.diff(first) > 0).all()


def test_noise_leaves_no_fragments():
    noise = np.random.Generator(np.random.Philox(key=5)).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    for text in ("slic:8,ruler=1", "mslic:16"):
        check(region_map(noise, layer(text)), layer(text).size)


def test_a_flat_picture_is_cut_into_squares():
    areas = check(region_map(np.full((120, 160, 3), 90, np.uint8), layer("slic:20")), 20)
    assert len(areas) == 48 and areas.min() > 200 and areas.max() < 800


def test_regions_follow_strong_borders():
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[:, 83:] = (250, 120, 30)
    ids = region_map(picture, layer("slic:20"))
    assert not set(np.unique(ids[:, :83])) & set(np.unique(ids[:, 83:]))


def test_fragments_go_to_the_neighbour_with_the_longest_border(monkeypatch):
    """OpenCV is replaced by a map in which a label has a second piece: 3 of its 4 neighbours are region 1."""
    picture = np.zeros((32, 32, 3), np.uint8)
    labels = np.zeros((32, 32), np.int32)
    labels[:, 16:] = 1
    labels[10:12, 16:18] = 0
    labels[20, 20] = 0
    labels[0, 0] = 5
    monkeypatch.setattr(regions, "_superpixels", lambda *_: labels)
    ids = region_map(picture, layer("slic:16"))
    expected = np.zeros((32, 32), int)
    expected[:, 16:] = 1
    expected[10:12, 16:18] = 0
    assert ids.tolist() == expected.tolist()


ODD_SHAPES = [
    ((320, 240), 64),
    ((100, 1000), 64),
    ((1000, 90), 64),
    ((100, 100), 64),
    ((65, 67), 64),
    ((64, 91), 64),
    ((41, 400), 40),
    ((299, 31), 20),
    ((97, 143), 8),
    ((30, 30), 4),
    ((4, 500), 4),
]


@pytest.mark.parametrize("method", ["slic", "slico", "opencv-slic", "opencv-slico", "mslic"])
@pytest.mark.parametrize(("shape", "size"), ODD_SHAPES)
def test_odd_shapes_have_regions_of_the_size_asked(method, shape, size):
    picture = blobs(*shape, 2)
    ids = region_map(picture, layer(f"{method}:{size}"))
    areas = check(ids, size)
    assert 0.8 * size < np.sqrt(areas.mean()) < 1.2 * size
    assert (ids == region_map(picture, layer(f"{method}:{size}"))).all()


def test_small_pictures_and_too_many_regions_are_refused(monkeypatch):
    with pytest.raises(Rejected, match="80 × 40 is smaller than a region of slic:41"):
        region_map(blobs(80, 40, 0), layer("slic:41"))
    stripes = np.arange(1200 * 1200, dtype=np.int32).reshape(1200, 1200) // 16
    monkeypatch.setattr(regions, "_superpixels", lambda *_: stripes)
    with pytest.raises(Rejected, match=r"slic:4 gives 90,000 regions, more than 65,535; use slic:5"):
        region_map(np.zeros((1200, 1200, 3), np.uint8), layer("slic:4"))


def test_the_size_to_use_instead_is_accepted(monkeypatch):
    picture = np.random.Generator(np.random.Philox(key=6)).integers(0, 256, (1100, 2048, 3)).astype(np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(regions, "_superpixels", lambda *_: pytest.fail("SLIC ran"))
        with pytest.raises(Rejected, match=r"slic:4 gives 140,800 regions, more than 65,535; use slic:6\b"):
            region_map(picture, layer("slic:4"))
    check_numbers(region_map(picture, layer("slic:6,iterations=1")))


def test_more_pieces_than_can_be_numbered_are_merged(monkeypatch):
    """1150 × 2048 at size 6 are 65,422 regions asked; a piece is 16 pixels at first, as many as 147,200."""
    runs = np.arange(1150 * 2048, dtype=np.int32).reshape(1150, 2048) // 16
    monkeypatch.setattr(regions, "_superpixels", lambda *_: runs)
    ids = region_map(np.zeros((1150, 2048, 3), np.uint8), layer("slic:6"))
    check_numbers(ids)
    assert ids.max() + 1 == 65422


@pytest.mark.parametrize("pixels", [(1536, 1536), (1537, 1535), (65535, 17), (4096, 3072), (65535, 256)])
def test_every_size_to_use_instead_fits(pixels):
    with pytest.raises(Rejected) as refused:
        regions.regions_asked(*pixels, layer("mslic:4"))
    hint = refused.value.reason.split("use ")[1]
    assert regions.regions_asked(*pixels, layer(hint)) <= 65535


@pytest.mark.photographs
@pytest.mark.parametrize("method", ["slic", "slico", "opencv-slic", "opencv-slico", "mslic"])
@pytest.mark.parametrize("size", [8, 20, 40])
def test_a_set_of_photographs_has_the_mean_size_asked(method, size):
    """Of the set within 5 %, of each photograph within 20 %."""
    paths = sorted(photographs("bsds500", "train", "images").iterdir())[5::40]
    paths += sorted(photographs("camvid", "train", "images").iterdir())[50::250]
    means = []
    for path in paths:
        areas = check(region_map(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), layer(f"{method}:{size}")), size)
        means.append(np.sqrt(areas.mean()))
    assert 0.8 * size < min(means) and max(means) < 1.2 * size
    assert 0.95 * size < np.mean(means) < 1.05 * size


@pytest.mark.photographs
@pytest.mark.parametrize("text", ["slic:20", "slico:20", "slic:10"])
def test_photographs_have_regions_of_the_size_asked(text):
    paths = sorted(photographs("bsds500", "train", "images").iterdir())[::100]
    paths += sorted(photographs("camvid", "train", "images").iterdir())[::200]
    size = layer(text).size
    for path in paths:
        areas = check(region_map(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), layer(text)), size)
        assert 0.9 * size < np.sqrt(areas.mean()) < 1.1 * size

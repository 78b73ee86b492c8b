"""Region layers: every id used, every region one piece, sizes as asked; what cannot be stored is refused."""

import cv2
import numpy as np
import pytest
from photographs import photographs
from scipy import ndimage
from sharding import blobs

from vice.data_specs.regions import RegionLayer
from vice.pipeline.prep import regions
from vice.pipeline.prep.regions import connected_pieces, region_map
from vice.pipeline.prep.rejection import Rejected


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


@pytest.mark.parametrize("text", ["slic:10", "slic:20,ruler=2,iterations=3", "slico:12", "mslic:20", "slic:48"])
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


def test_pieces_of_equal_label_are_told_apart():
    labels = np.array([[7, 7, 3, 7], [3, 3, 3, 7], [7, 3, 7, 7], [7, 3, 3, 3]])
    pieces, count = connected_pieces(labels)
    assert count == 4
    assert pieces.tolist() == [[0, 0, 1, 2], [1, 1, 1, 2], [3, 1, 2, 2], [3, 1, 1, 1]]


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


def test_small_pictures_and_too_many_regions_are_refused(monkeypatch):
    with pytest.raises(Rejected, match="80 × 40 is smaller than a region of slic:41"):
        region_map(blobs(80, 40, 0), layer("slic:41"))
    stripes = np.arange(1200 * 1200, dtype=np.int32).reshape(1200, 1200) // 16
    monkeypatch.setattr(regions, "_superpixels", lambda *_: stripes)
    with pytest.raises(Rejected, match=r"slic:4 gives 90,000 regions, more than 65,535; use slic:5"):
        region_map(np.zeros((1200, 1200, 3), np.uint8), layer("slic:4"))


@pytest.mark.photographs
@pytest.mark.parametrize("text", ["slic:20", "slico:20", "slic:10"])
def test_photographs_have_regions_of_the_size_asked(text):
    paths = sorted(photographs("bsds500", "train", "images").iterdir())[::100]
    paths += sorted(photographs("camvid", "train", "images").iterdir())[::200]
    size = layer(text).size
    for path in paths:
        areas = check(region_map(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), layer(text)), size)
        assert 0.9 * size < np.sqrt(areas.mean()) < 1.1 * size

import cv2
import numpy as np
import pytest

from vice.data_specs.regions import IGNORE
from vice.evaluate.gallery import MAX_SIDE, NUM_PICTURES, Gallery
from vice.evaluate.names import CHANGED_LIGHT, CLEAN, COLOUR_POSITION, TRAINED
from vice.evaluate.passes import View
from vice.evaluate.pictures import (
    UNLABELLED,
    class_colours,
    paint_labels,
    palette,
    principal_colours,
    save_drawn,
    save_png,
)
from vice.evaluate.scenes import Scene

STRIDE = 4


def read(path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def test_colours_are_far_apart_and_do_not_move_when_classes_are_added():
    colours = palette(27)
    lab = cv2.cvtColor(np.float32([*colours, UNLABELLED])[None] / 255, cv2.COLOR_RGB2LAB)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)[~np.eye(28, dtype=bool)]
    assert distances.min() > 15  # a difference of 2 can just be seen
    np.testing.assert_array_equal(palette(11), colours[:11])
    assert palette(0).shape == (0, 3)


def test_labels_are_painted_by_class_and_ignored_pixels_dark():
    painted = paint_labels(np.array([[0, 2], [IGNORE, 1]], np.uint16), num_classes=3)
    np.testing.assert_array_equal(painted[0], palette(3)[[0, 2]])
    assert list(class_colours(["a", "b", "c"])) == ["a", "b", "c"]
    assert class_colours(["a", "b", "c"])["c"] == "#" + "".join(f"{value:02x}" for value in painted[0, 1])
    np.testing.assert_array_equal(painted[1], [UNLABELLED, palette(3)[1]])


def test_principal_colours_follow_the_directions_of_most_variance():
    draws = np.random.Generator(np.random.Philox(key=3))
    vectors = (draws.standard_normal((5000, 6)) * [1, 9, 2, 5, 0.1, 0.1]).astype(np.float32) + 3
    basis = principal_colours(vectors)
    np.testing.assert_array_equal(np.abs(basis.directions).argmax(axis=1), [1, 3, 2])
    assert (basis.directions[np.arange(3), [1, 3, 2]] > 0.99).all()
    ramp = np.full((6, 1, 3), 3, np.float32)
    ramp[1] = [[-100, 3, 100]]
    painted = basis.paint(ramp, STRIDE, 3 * STRIDE, stride=STRIDE)
    assert painted.shape == (STRIDE, 3 * STRIDE, 3)
    assert (painted[0, 0, 0], painted[0, -1, 0]) == (0, 255)
    # the mean is the middle of each colour, up to the percentiles' own scatter
    assert np.abs(painted[0, STRIDE + 1 : STRIDE + 3].mean(axis=0) - 127.5).max() < 8


def test_two_dimensions_leave_a_colour_out():
    vectors = np.random.Generator(np.random.Philox(key=3)).standard_normal((100, 2), np.float32)
    assert (principal_colours(vectors).paint(vectors[:4].T.reshape(2, 2, 2), 8, 8, stride=STRIDE)[..., 2] == 0).all()


def test_saved_class_colours_are_not_mixed_when_made_smaller(tmp_path):
    labels = np.indices((800, 1000)).sum(axis=0) % 2
    save_png(tmp_path / "labels.png", palette(2)[labels], max_side=300, blend=False)
    saved = read(tmp_path / "labels.png")
    assert saved.shape == (240, 300, 3)
    assert {tuple(colour) for colour in saved.reshape(-1, 3)} <= {tuple(colour) for colour in palette(2)}


def test_small_pictures_are_saved_exactly(tmp_path):
    picture = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    save_png(tmp_path / "picture.png", picture, max_side=MAX_SIDE, blend=True)
    np.testing.assert_array_equal(read(tmp_path / "picture.png"), picture)


def test_drawn_pictures_of_one_name_do_not_overwrite_each_other(tmp_path):
    dark, light = (np.full((4, 6, 3), value, np.uint8) for value in (10, 200))
    files = [save_drawn(tmp_path, "pictures/a b", one, max_side=9, blend=False) for one in (dark, light, dark)]
    assert files[0] == files[2] != files[1] and files[0].startswith("pictures/a_b-")
    assert [read(tmp_path / file).max() for file in files] == [10, 200, 10]


def view(number: int, condition: str, encoder: str) -> View:
    scene = Scene(number, f"key{number}", np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint16))
    return View(
        scene, condition, encoder, STRIDE, scene.picture, np.zeros((3, 2, 2), np.float32), {"p": np.ones((8, 8), int)}
    )


def test_a_gallery_draws_evenly_spaced_pictures_once_and_names_the_files(tmp_path):
    gallery = Gallery(tmp_path, "linear", num_classes=2, num_pictures=100)
    gallery.painters["prediction"] = lambda seen: palette(2)[seen.predictions["p"]]
    for number in range(100):
        for condition in (CLEAN, CHANGED_LIGHT):
            for encoder in (TRAINED, COLOUR_POSITION):
                gallery.add(view(number, condition, encoder))
    assert list(dict.fromkeys(tile.key for tile in gallery.tiles)) == ["key12", "key37", "key62", "key87"]
    of_first = [(t.condition, t.encoder, t.shows) for t in gallery.tiles if t.key == "key12"]
    assert of_first == [
        (CLEAN, None, "picture"),
        (CLEAN, None, "labels"),
        (CLEAN, TRAINED, "prediction"),
        (CHANGED_LIGHT, None, "picture"),
        (CHANGED_LIGHT, TRAINED, "prediction"),
    ]
    assert len({tile.file for tile in gallery.tiles}) == len(gallery.tiles) == 5 * NUM_PICTURES
    for tile in gallery.tiles:
        assert read(tmp_path / tile.file).shape == (8, 8, 3)
    assert (read(tmp_path / gallery.tiles[2].file) == palette(2)[1]).all()


@pytest.mark.parametrize("num_pictures", [1, 3])
def test_a_gallery_of_few_pictures_draws_what_there_is(tmp_path, num_pictures):
    gallery = Gallery(tmp_path, "linear", num_classes=1, num_pictures=num_pictures)
    for number in range(num_pictures):
        gallery.add(view(number, CLEAN, TRAINED))
    assert {tile.key for tile in gallery.tiles} == {f"key{number}" for number in range(num_pictures)}

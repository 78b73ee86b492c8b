"""Writing scenes: what lies in the folder, doing nothing twice, refusing what it did not write."""

import json

import cv2
import numpy as np
import pytest

from vice.data_specs.dataset import load_dataset
from vice.data_specs.errors import InputError, WorkError
from vice.pipeline.scenes import write
from vice.pipeline.scenes.scene import make_scene
from vice.pipeline.scenes.write import write_scenes


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "new" / "scenes"
    write_scenes(folder, num_train=2, num_val=1, seed=3)
    return folder


def test_files_fit_the_dataset_spec(written):
    spec = load_dataset("scenes")
    for split, count in (("train", 2), ("val", 1)):
        pictures = sorted((written / split / "images").iterdir())
        assert len(pictures) == count
        for path in pictures:
            label = spec.picture(f"images/{path.name}").label
            labels = cv2.imread(str(written / split / label), cv2.IMREAD_UNCHANGED)
            assert labels.dtype == np.uint8
            assert spec.classes_of(labels).max() < len(spec.classes)


def test_pictures_and_labels_are_the_scene_s(written):
    scene = make_scene(3, "train", 1)
    labels = cv2.imread(str(written / "train" / "labels" / "train-00001.png"), cv2.IMREAD_UNCHANGED)
    picture = cv2.imread(str(written / "train" / "images" / "train-00001.jpg"), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(labels, scene.labels)
    assert np.abs(picture.astype(int) - scene.picture).mean() < 4


def test_nothing_is_left_beside_the_folder(written):
    assert [path.name for path in written.parent.iterdir()] == ["scenes"]


def test_again_does_nothing(written, monkeypatch):
    monkeypatch.setattr(write, "make_scene", lambda *_: pytest.fail("made a scene again"))
    write_scenes(written, num_train=2, num_val=1, seed=3)


def test_other_settings_are_refused_and_named(written):
    with pytest.raises(InputError, match="seed: 3 -> 4"):
        write_scenes(written, num_train=2, num_val=1, seed=4)


def test_another_generator_version_is_refused(written, monkeypatch):
    monkeypatch.setattr(write, "GENERATOR_VERSION", write.GENERATOR_VERSION + 1)
    with pytest.raises(InputError, match="generator_version"):
        write_scenes(written, num_train=2, num_val=1, seed=3)


def test_other_things_are_refused_and_kept(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="other things"):
        write_scenes(tmp_path, num_train=1, num_val=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused(tmp_path):
    path = tmp_path / "scenes"
    path.write_text("mine")
    with pytest.raises(InputError, match="not a folder"):
        write_scenes(path, num_train=1, num_val=0)


def test_an_empty_folder_is_filled(tmp_path):
    write_scenes(tmp_path / "scenes", num_train=0, num_val=0)
    empty = tmp_path / "empty"
    empty.mkdir()
    write_scenes(empty, num_train=0, num_val=0)
    assert json.loads((empty / "scenes.json").read_text())["num_train"] == 0


@pytest.mark.parametrize("wrong", [{"num_train": -1}, {"num_val": -1}, {"seed": -1}, {"seed": 1 << 64}])
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="whole numbers"):
        write_scenes(tmp_path / "scenes", **wrong)


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "make_scene", full)
    with pytest.raises(WorkError, match="No space left"):
        write_scenes(tmp_path / "scenes", num_train=1, num_val=0)
    assert list(tmp_path.iterdir()) == []

"""Generated scenes: the same bytes every time, sensible shares of the classes, light as in CamVid."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from vice.data_specs.dataset import load_dataset
from vice.pipeline.scenes import light
from vice.pipeline.scenes.canvas import Label
from vice.pipeline.scenes.measure import class_colours, picture_light
from vice.pipeline.scenes.raw_probe import class_ious, fit_softmax, raw_features
from vice.pipeline.scenes.scene import make_scene

NUM_SCENES = 32
NUM_CLASSES = len(Label)


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(0, "train", number) for number in range(NUM_SCENES)]


@pytest.fixture(scope="module")
def shares(scenes):
    """Share of each class in each scene, [scenes, classes]."""
    return np.stack([np.bincount(scene.labels.ravel(), minlength=NUM_CLASSES) / scene.labels.size for scene in scenes])


@pytest.fixture(scope="module")
def lights(scenes):
    return [picture_light(scene.picture) for scene in scenes]


def digest(scene) -> str:
    return hashlib.sha256(scene.picture.tobytes() + scene.labels.tobytes()).hexdigest()


def test_shapes_dtypes_and_labels(scenes):
    for scene in scenes:
        assert scene.picture.shape == (240, 320, 3)
        assert scene.picture.dtype == np.uint8
        assert scene.labels.shape == (240, 320)
        assert scene.labels.dtype == np.uint8
        assert scene.labels.max() < NUM_CLASSES


def test_labels_are_in_the_order_of_the_dataset_spec():
    assert [label.name.lower() for label in Label] == load_dataset("scenes").classes


def test_another_process_makes_the_same_scenes_in_another_order(scenes):
    script = (
        "import hashlib\n"
        "from vice.pipeline.scenes.scene import make_scene\n"
        "for number in (3, 0):\n"
        "    scene = make_scene(0, 'train', number)\n"
        "    print(hashlib.sha256(scene.picture.tobytes() + scene.labels.tobytes()).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(scenes[3]), digest(scenes[0])]


def test_seed_split_and_number_each_give_another_scene(scenes):
    others = [make_scene(1, "train", 0), make_scene(0, "val", 0), make_scene(2**64 - 1, "train", 0), *scenes[:4]]
    assert len({digest(scene) for scene in others}) == len(others)


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="test"):
        make_scene(0, "test", 0)


def test_every_class_is_in_most_scenes(shares):
    present = (shares > 0.0005).mean(axis=0)
    assert (present >= 0.7).all(), present


def test_no_class_takes_over_and_none_vanishes(shares):
    mean = shares.mean(axis=0)
    assert mean.max() <= 0.45
    assert mean[Label.POLE] >= 0.005
    assert mean[Label.PERSON] >= 0.005
    assert mean[Label.CAR] >= 0.03


def test_layouts_differ(shares, scenes):
    assert np.ptp(shares[:, Label.SKY]) > 0.25
    assert np.ptp(shares[:, Label.BUILDING]) > 0.25
    top = np.array([(scene.labels[:20] == Label.SKY).mean() for scene in scenes])
    assert (top > 0.5).mean() > 0.25
    assert (top < 0.5).mean() > 0.25


@pytest.mark.parametrize(
    ("measure", "drawn"),
    [
        ("brightness", light.BRIGHTNESS),
        ("contrast", light.CONTRAST),
        ("colourfulness", light.COLOURFULNESS),
        ("red_green", light.RED_GREEN),
        ("blue_green", light.BLUE_GREEN),
    ],
)
def test_light_spreads_over_camvid_s_range(lights, measure, drawn):
    values = np.array([light_of_one[measure] for light_of_one in lights])
    low, high = drawn
    margin = 0.15 * (high - low)
    assert ((values > low - margin) & (values < high + margin)).mean() >= 0.85
    assert np.quantile(values, 0.95) - np.quantile(values, 0.05) > 0.4 * (high - low)


def test_colours_of_classes_overlap(scenes):
    """Over scenes, the mean brightness of road, building, vegetation and car each spans most of the others' span."""
    colours = np.stack([class_colours(scene.picture, scene.labels, NUM_CLASSES) for scene in scenes])
    spans = [
        np.nanquantile(colours[:, label].mean(axis=-1), (0.1, 0.9))
        for label in (Label.ROAD, Label.BUILDING, Label.VEGETATION, Label.CAR)
    ]
    shared = min(high for _, high in spans) - max(low for low, _ in spans)
    assert shared > 0.5 * max(high - low for low, high in spans)


def test_colour_and_place_alone_tell_little(scenes):
    pairs = [(scene.picture, scene.labels) for scene in scenes]
    fitted, evaluated = (raw_features(half, NUM_CLASSES, step=20) for half in (pairs[:24], pairs[24:]))
    ious = class_ious(fit_softmax(*fitted, NUM_CLASSES), *evaluated)
    assert np.nanmean(ious) < 0.4
    assert ious[[Label.POLE, Label.PERSON]].max() < 0.1

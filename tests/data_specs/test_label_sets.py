"""The real label sets: the pages agree with their published tables, and no label pixel changes on its way to shards."""

import json
import shutil

import cv2
import numpy as np
import pytest
from photographs import photographs
from sharding import shard_serially

from vice.data_specs.dataset import load_dataset
from vice.data_specs.regions import IGNORE, RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.shards import Shards

pytestmark = pytest.mark.photographs


def table_of(dataset: str) -> dict:
    return json.loads(photographs(dataset, "classes.json").read_text())


def in_order(names: dict[str, str]) -> list[str]:
    return [names[str(place)] for place in range(len(names))]


def test_coco_stuff_s_182_and_27_classes():
    spec, lists = load_dataset("coco_stuff"), photographs("coco_lists", "cocostuff_182_to_27.json")
    for facts in (table_of("coco_stuff"), json.loads(lists.read_text())):
        assert spec.classes == in_order(facts["classes"]) and spec.ignore == facts["ignore"]
        assert spec.class_sets["27"].classes == in_order(facts["classes27"])
        assert spec.class_sets["27"].of == [facts["fine_to_coarse"][str(fine)] for fine in range(182)]


def test_cityscapes_27_and_19_classes():
    spec, rows = load_dataset("cityscapes"), table_of("cityscapes")["table"]
    values = np.array([row["id"] for row in rows], np.uint8)
    ids27 = [IGNORE if row["id27"] == 255 else row["id27"] for row in rows]
    ids19 = [IGNORE if row["trainId"] == 255 else row["trainId"] for row in rows]
    stored = spec.classes_of(values)
    assert stored.tolist() == ids27
    assert [spec.classes[row["id27"]] for row in rows if row["id27"] != 255] == [row["name"] for row in rows[7:]]
    classes, table = spec.class_set("19")
    assert table[stored].tolist() == ids19
    assert {row["trainId"]: row["name"] for row in rows if row["trainId"] != 255} == dict(enumerate(classes))


def test_ade20k_and_camvid_classes():
    facts = in_order(table_of("ade20k")["classes"])
    spec = load_dataset("ade20k")
    assert spec.classes == [name.split(",")[0] for name in facts[1:]]
    assert spec.classes_of(np.arange(151)).tolist() == [IGNORE, *range(150)]
    camvid = load_dataset("camvid")
    assert [*camvid.classes, "Unlabelled"] == in_order(table_of("camvid")["classes"]) and camvid.ignore == [11]


def test_the_curated_list_is_the_one_that_the_shared_pictures_were_checked_against():
    ids = photographs("coco_lists", "train2017_Coco164kFull_Stuff_Coarse_7.txt").read_text()
    selection = load_dataset("coco_stuff").selection("curated_train", lambda path: ids)
    pictures = [f"images/train2017/{path.name}" for path in photographs("coco_stuff", "train", "images").iterdir()]
    assert sum(map(selection.is_input, pictures)) == 5 and len(selection.ids) == 49629


@pytest.fixture(scope="module")
def few_of_camvid(tmp_path_factory):
    """Every fourth picture of CamVid's val, with its label map."""
    folder = tmp_path_factory.mktemp("camvid")
    for part in ("images", "labels"):
        (folder / part).mkdir()
        for path in sorted(photographs("camvid", "val", part).iterdir())[::4]:
            shutil.copy(path, folder / part)
    return folder


def histogram(maps) -> np.ndarray:
    return sum(np.bincount(labels.ravel(), minlength=65536) for labels in maps)


def test_label_pixels_per_class_are_equal_before_and_after(tmp_path, few_of_camvid):
    sources = {
        "camvid": few_of_camvid,
        "coco_stuff": photographs("coco_stuff", "train"),
        "cityscapes": photographs("cityscapes", "train"),
    }
    settings = PrepSettings(regions=[RegionLayer.from_text("slic:64,iterations=1")])
    for name, source in sources.items():
        spec, facts = load_dataset(name), table_of(name)
        raw = histogram(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (source / "labels").iterdir())
        record = shard_serially(source, tmp_path / name, settings, spec)
        pictures = len(list((source / "images").iterdir()))
        assert (record.num_inputs, record.num_samples, record.num_rejected) == (pictures, pictures, 0)
        shards = Shards(tmp_path / name)
        stored = histogram(shards.sample(number, layers=[]).labels for number in range(len(shards)))

        # by name, so that only the published table says which value is which class
        names = {int(value): label for value, label in facts["classes"].items() if int(value) not in facts["ignore"]}
        before = {label: int(raw[value]) for value, label in names.items()}
        assert {label: int(stored[place]) for place, label in enumerate(spec.classes)} == before
        assert stored[IGNORE] == raw[facts["ignore"]].sum()
        assert stored.sum() == raw.sum()
        coarse = expected_coarse(name, facts, raw)
        for class_set, (expected, ignored) in coarse.items():
            classes, table = shards.spec.class_set(class_set)
            after = np.bincount(table, weights=stored, minlength=65536).astype(int)
            assert after[: len(classes)].tolist() == expected and after[IGNORE] == ignored
        assert set(coarse) == set(spec.class_sets)
        if name == "coco_stuff":
            published = histogram(
                cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (source / "labels27").iterdir()
            )
            assert [*published[:27], published[255]] == [*coarse["27"][0], coarse["27"][1]]


def expected_coarse(name: str, facts: dict, raw: np.ndarray) -> dict[str, tuple[list[int], int]]:
    """Pixels per class of the coarser sets, and ignored ones, from the published tables and the files' values."""
    if name == "coco_stuff":
        groups = [[int(f) for f, c in facts["fine_to_coarse"].items() if c == place] for place in range(27)]
        return {"27": ([int(raw[group].sum()) for group in groups], int(raw[255]))}
    if name == "cityscapes":
        train_ids = {row["trainId"]: row["id"] for row in facts["table"] if row["trainId"] != 255}
        kept = [int(raw[train_ids[place]]) for place in range(19)]
        return {"19": (kept, int(raw.sum()) - sum(kept))}
    return {}

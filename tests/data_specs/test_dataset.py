"""Dataset specs: what a page says of files, splits and labels; which inputs follow; how mistakes are told."""

import numpy as np
import pytest
import yaml

from vice.data_specs.dataset import DatasetSpec, builtin_datasets, load_dataset
from vice.data_specs.errors import InputError
from vice.data_specs.regions import IGNORE
from vice.data_specs.validation import parse
from vice.pipeline.prep.inputs import find_inputs, printable_paths

PAGE = r"""
name: roads
title: two layouts, two splits, a list
pictures: '^photos/(?P<split>a|b)/(?P<id>(?P<group>\w+)_\d+)\.(jpg|png)$'
labels: truth/{split}/{id}_ids.png
other_layouts:
  - pictures: '^images/(?P<id>\w+)\.jpg$'
    labels: labels/{id}.png
beside: '^truth/.*_color\.png$|^README$'
splits:
  train: {part: a}
  val: {part: b}
  few: {part: a, ids: lists/few.txt}
  all: {}
classes: [road, car, van]
first_label: 5
label_map: {20: 1}
ignore: [0, 7]
class_sets:
  2: {classes: [vehicle, ground], of: [1, 0, 0]}
  cars: {classes: [car], of: [null, 0, null]}
source: get roads.zip and unpack it into SOURCE
"""

FILES = [
    "README",
    "images/x.jpg",
    "labels/x.png",
    "lists/few.txt",
    "notes.md",
    "photos/a/north_1.jpg",
    "photos/a/north_2.png",
    "photos/b/south_1.jpg",
    "truth/a/north_1_color.png",
    "truth/a/north_1_ids.png",
    "truth/a/north_2_ids.png",
]


def spec_with(**changes) -> DatasetSpec:
    return parse(DatasetSpec, yaml.safe_load(PAGE) | changes, where="page")


ROADS = spec_with()


def chosen(split: str | None, few: str = "north_2\n\n north_9 \n", spec: DatasetSpec = ROADS) -> list[str]:
    selection = spec.selection(split, {"lists/few.txt": few}.__getitem__)
    return [path for path in FILES if selection.is_input(path)]


def test_a_picture_s_path_says_its_label_map_and_group_in_every_layout():
    assert ROADS.picture("photos/a/north_1.jpg") == ("truth/a/north_1_ids.png", "north")
    assert ROADS.picture("images/x.jpg") == ("labels/x.png", None)
    assert ROADS.picture("photos/c/north_1.jpg") is None
    for path in FILES:
        name = ROADS.picture(path)
        assert name is None or ROADS.is_label(name.label)
        assert not (name and ROADS.is_label(path))


def test_a_part_that_matched_nothing_is_left_out_of_the_label_s_path():
    spec = spec_with(pictures=r"^(?P<id>\d+)(?P<side>_left)?\.jpg$", labels="{id}{side}.png", splits={})
    assert (spec.picture("1_left.jpg").label, spec.picture("1.jpg").label) == ("1_left.png", "1.png")


def test_a_split_takes_its_part_and_what_a_layout_without_parts_holds():
    stray = ["notes.md"]
    assert chosen("train") == ["images/x.jpg", *stray, "photos/a/north_1.jpg", "photos/a/north_2.png"]
    assert chosen("val") == ["images/x.jpg", *stray, "photos/b/south_1.jpg"]
    assert chosen("few") == [*stray, "photos/a/north_2.png"]
    everything = ["images/x.jpg", *stray, "photos/a/north_1.jpg", "photos/a/north_2.png", "photos/b/south_1.jpg"]
    assert chosen("all") == chosen(None) == everything
    assert chosen("anything", spec=spec_with(splits={})) == sorted([*everything, "lists/few.txt"])


def test_every_picture_is_in_exactly_one_of_the_splits_by_part():
    pictures = [path for path in FILES if ROADS.parts(path) and "split" in ROADS.parts(path)]
    assert sorted([path for split in ("train", "val") for path in chosen(split) if path in pictures]) == pictures


def test_an_unknown_split_and_lists_that_cannot_be_used():
    def fails(read_text, split="few"):
        with pytest.raises(InputError) as error:
            ROADS.selection(split, read_text)
        return error.value.line()

    def missing(path):
        raise FileNotFoundError(path)

    what = "dataset 'roads' has no such split: --split test; choose from train, val, few, all"
    assert fails(missing, split="test") == what
    assert fails(missing) == f"the split's list of ids is missing: lists/few.txt; {ROADS.source}"
    assert "is empty" in fails(lambda path: " \n\n")
    assert "is no text" in fails(lambda path: b"\xff".decode())


@pytest.fixture
def tree(tmp_path):
    for path in FILES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("north_1")
    return tmp_path


def test_a_list_with_other_ids_of_the_same_size_changes_the_inputs_fingerprint(tree):
    before = find_inputs(tree, ROADS, "few")
    assert list(printable_paths(before)) == ["notes.md", "photos/a/north_1.jpg"]
    (tree / "lists/few.txt").write_text("north_8")
    assert list(printable_paths(find_inputs(tree, ROADS, "train"))) == chosen("train")
    with pytest.raises(InputError, match="no picture of dataset 'roads', split 'few', in the source"):
        find_inputs(tree, ROADS, "few")
    (tree / "lists/few.txt").write_text("north_2")
    assert find_inputs(tree, ROADS, "few").fingerprint != before.fingerprint


def test_a_source_without_the_data_says_from_where_and_into_which_folders(tree, tmp_path):
    for path in ("truth/a/north_1_ids.png", "truth/a/north_2_ids.png", "labels/x.png"):
        (tree / path).unlink()
    line = f"no label map of dataset 'roads', split 'train', in the source: {tree}; {ROADS.source}"
    with pytest.raises(InputError) as error:
        find_inputs(tree, ROADS, "train")
    assert error.value.line() == line
    (tmp_path / "other").mkdir()
    for add in (lambda: None, (tmp_path / "other/IMG_1.jpg").touch):
        add()
        with pytest.raises(InputError, match=r"no picture of dataset 'roads' in the source: .*; get roads\.zip"):
            find_inputs(tmp_path / "other", ROADS)
    with pytest.raises(InputError, match=r"no such source: .*; get roads\.zip"):
        find_inputs(tmp_path / "nowhere", ROADS)
    # without a place to fetch from, files are rejected one by one, by name
    assert list(printable_paths(find_inputs(tmp_path / "other", spec_with(source="")))) == ["IMG_1.jpg"]
    assert ROADS.missing_data_error("here").line() == (
        "no picture of dataset 'roads' in the source: here; get roads.zip and unpack it into SOURCE"
    )


def test_label_values_become_classes():
    values = np.array([[5, 6, 20], [0, 7, 5]], np.uint8)
    assert ROADS.classes_of(values).tolist() == [[0, 1, 1], [IGNORE, IGNORE, 0]]
    with pytest.raises(InputError, match="label value 4 is no class of dataset 'roads'"):
        ROADS.classes_of(np.array([[5, 8, 4]], np.uint16))


def test_class_sets_map_stored_labels():
    stored = np.array([0, 1, 2, IGNORE], np.uint16)
    two, cars = ROADS.class_set("2"), ROADS.class_set("cars")
    assert two.classes == ["vehicle", "ground"] and two.table[stored].tolist() == [1, 0, 0, IGNORE]
    assert cars.table[stored].tolist() == [IGNORE, 0, IGNORE, IGNORE] and cars.table.dtype == np.uint16
    with pytest.raises(InputError, match="has no such set of classes: 3; choose from 2, cars"):
        ROADS.class_set("3")
    with pytest.raises(InputError, match="its spec has no 'class_sets'"):
        load_dataset("scenes").class_set("3")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pictures": "(?P<id>"}, "'pictures': not a regular expression"),
        ({"pictures": "x"}, "'pictures': needs a named part (?P<id>...)"),
        ({"beside": "["}, "'beside': not a regular expression"),
        ({"labels": "truth/{id"}, "'labels': braces hold the name of a part"),
        ({"labels": "truth/{frame}.png"}, "'labels' names ['frame'], which 'pictures' does not"),
        ({"labels": None}, "'labels' and 'classes' go together"),
        ({"classes": ["a", "b", "a"]}, "'classes': names 'a' twice"),
        ({"other_layouts": [{"pictures": "x"}]}, "'other_layouts.0.pictures': needs a named part"),
        (
            {"other_layouts": [{"pictures": "(?P<id>x)", "labels": "{group}"}]},
            "'other_layouts.0': 'labels' names ['group'], which 'pictures' does not",
        ),
        ({"other_layouts": [{"pictures": "(?P<id>x)"}]}, "'other_layouts.0.labels': every layout has label maps"),
        (
            {"other_layouts": [{"pictures": "(?P<id>x)", "label": "y"}]},
            "unknown setting 'other_layouts.0.label' (choices: pictures, labels)",
        ),
        ({"splits": {"train": {"folder": "a"}}}, "unknown setting 'splits.train.folder' (choices: part, ids)"),
        ({"splits": {"Train set": {}}}, "'splits': 'Train set' is no name"),
        ({"splits": {"train": {"ids": "../ids.txt"}}}, "'splits.train.ids': give a path relative to SOURCE"),
        (
            {"pictures": r"^(?P<id>\w+)\.jpg$", "labels": "{id}.png"},
            "'splits.train.part' needs a named part (?P<split>...) in 'pictures'",
        ),
        ({"first_label": 65533}, "'first_label': the last class would have a label value above 65534"),
        ({"label_map": {9: 3}}, "'label_map.9' leads to a class outside 0..2"),
        ({"label_map": {7: 1}}, "'label_map.7' is in 'ignore' too"),
        ({"label_map": {70000: 1}}, "'label_map.70000.[key]': Input should be less than or equal to 65535"),
        ({"ignore": [-1]}, "'ignore.0': Input should be greater than or equal to 0"),
        (
            {"class_sets": {"2": {"classes": ["x"], "of": [0, 0]}}},
            "'class_sets.2.of' has 2 entries for 3 classes",
        ),
        (
            {"class_sets": {"2": {"classes": ["x"], "of": [0, 1, 0]}}},
            "'class_sets.2.of' leads to class 1, outside 0..0",
        ),
        ({"class_sets": {"2": {"classes": ["x", "x"], "of": [0, 1, 0]}}}, "'class_sets.2.classes': names 'x' twice"),
        (
            {"class_sets": {"2": {"classes": [], "of": [0, 1, 0]}}},
            "'class_sets.2.classes': Value should have at least",
        ),
    ],
)
def test_a_wrong_page_is_told_by_dotted_path(tmp_path, changes, told):
    if "pictures" in changes and "labels" in changes:
        changes = changes | {"other_layouts": []}
    path = tmp_path / "roads.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(PAGE) | changes, sort_keys=False))
    with pytest.raises(InputError) as error:
        load_dataset(str(path))
    assert told in error.value.line() and str(path) in error.value.line()


def test_the_user_s_own_page_and_what_is_none(tmp_path):
    page = tmp_path / "roads.yaml"
    page.write_text(PAGE)
    assert load_dataset(str(page)) == ROADS
    for text, told in (("[1", "not readable as YAML"), ("- 1", "a dataset spec is a YAML mapping")):
        page.write_text(text)
        with pytest.raises(InputError, match=told):
            load_dataset(str(page))
    with pytest.raises(InputError, match=r"unknown dataset: 'street'; choose from ade20k, .*, or give a \.yaml file"):
        load_dataset("street")


@pytest.mark.parametrize("name", builtin_datasets())
def test_a_page_of_the_package_survives_the_record_and_says_where_its_data_are(name):
    spec = load_dataset(name)
    assert spec.name == name
    assert DatasetSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.source or name == "image_folder"
    for class_set in spec.class_sets:
        classes, table = spec.class_set(class_set)
        used = set(table[: len(spec.classes)].tolist()) - {IGNORE}
        assert used == set(range(len(classes))) and (table[len(spec.classes) :] == IGNORE).all()


PLACES = {
    "cityscapes": {
        "train": ("leftImg8bit/train/ulm/ulm_1_leftImg8bit.png", "gtFine/train/ulm/ulm_1_gtFine_labelIds.png"),
        "val": ("leftImg8bit/val/bonn/bonn_2_leftImg8bit.jpg", "gtFine/val/bonn/bonn_2_gtFine_labelIds.png"),
        None: ("images/ulm_1_leftImg8bit.jpg", "labels/ulm_1_gtFine_labelIds.png"),
        "beside": [
            "gtFine/train/ulm/ulm_1_gtFine_color.png",
            "gtFine/train/ulm/ulm_1_gtFine_instanceIds.png",
            "gtFine/train/ulm/ulm_1_gtFine_polygons.json",
            "license.txt",
            "README",
        ],
    },
    "coco_stuff": {
        "train": ("images/train2017/000000000009.jpg", "annotations/train2017/000000000009.png"),
        "val": ("images/val2017/000000000139.jpg", "annotations/val2017/000000000139.png"),
        None: ("images/000000000009.jpg", "labels/000000000009.png"),
        "beside": [
            "annotations/instances_train2017.json",
            "curated/train2017/Coco164kFull_Stuff_Coarse_7.txt",
            "curated/train2017/Coco164kFew_Stuff_6.txt",
            "labels27/000000000009.png",
        ],
    },
    "ade20k": {
        "train": ("images/training/ADE_train_1.jpg", "annotations/training/ADE_train_1.png"),
        "val": ("images/validation/ADE_val_1.jpg", "annotations/validation/ADE_val_1.png"),
        None: ("images/ADE_val_1.jpg", "labels/ADE_val_1.png"),
        "beside": ["objectInfo150.txt", "sceneCategories.txt"],
    },
    "camvid": {
        "train": ("train/0001TP_006690.png", "trainannot/0001TP_006690.png"),
        "val": ("val/0016E5_07959.png", "valannot/0016E5_07959.png"),
        None: ("images/0001TP_006690.jpg", "labels/0001TP_006690.png"),
        "beside": ["train.txt"],
    },
}


@pytest.mark.parametrize("name", PLACES)
def test_the_pages_know_the_datasets_own_folders(name):
    spec, places = load_dataset(name), PLACES[name]
    for split in ("train", "val"):
        selection = spec.selection(split, "".join)
        for where in ("train", "val", None):
            picture, label = places[where]
            assert spec.picture(picture).label == label
            assert selection.is_input(picture) == (where in (split, None))
            assert not selection.is_input(label)
        assert not any(selection.is_input(path) for path in places["beside"])
        assert selection.is_input("images/stray.tif")


def test_the_curated_splits_of_coco_stuff_take_the_listed_pictures():
    lists = {"curated/val2017/Coco164kFull_Stuff_Coarse_7.txt": "000000000139\n000000000724\n"}
    selection = load_dataset("coco_stuff").selection("curated_val", lists.__getitem__)
    assert selection.is_input("images/val2017/000000000139.jpg")
    assert not selection.is_input("images/val2017/000000000140.jpg")
    assert not selection.is_input("images/train2017/000000000139.jpg")

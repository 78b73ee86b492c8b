"""What counts as an input, and in which order inputs fill the shards."""

import errno
import os
import subprocess

import pytest

from vice.data_specs.dataset import DatasetSpec, load_dataset
from vice.data_specs.errors import InputError
from vice.pipeline.prep.inputs import find_inputs, printable, shuffled
from vice.pipeline.storage.local import LocalStorage

PLAIN = load_dataset("image_folder")
LABELLED = DatasetSpec(name="x", title="x", pictures=r"^(?P<id>\w+)\.jpg$", labels="truth/{id}.png", classes=["a"])


def paths_of(source, spec):
    inputs = find_inputs(source, spec)
    return [inputs[number].path for number in range(len(inputs))]


@pytest.fixture
def tree(tmp_path):
    for path in ("b.jpg", "a.jpg", "deep/er/c.tif", "truth/a.png", ".hidden.jpg", ".git/d.jpg", "notes.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


def test_every_file_is_an_input_unless_hidden_or_a_label(tree):
    assert paths_of(tree, PLAIN) == ["a.jpg", "b.jpg", "deep/er/c.tif", "notes.txt", "truth/a.png"]
    assert paths_of(tree, LABELLED) == ["a.jpg", "b.jpg", "deep/er/c.tif", "notes.txt"]


def test_links_are_followed_without_loops_and_pipes_are_no_files(tree):
    (tree / "deep/loop").symlink_to(tree)
    (tree / "link.jpg").symlink_to(tree / "a.jpg")
    (tree / "gone.jpg").symlink_to(tree / "nowhere.jpg")
    os.mkfifo(tree / "pipe.jpg")
    found = ["a.jpg", "b.jpg", "deep/er/c.tif", "gone.jpg", "link.jpg", "notes.txt"]
    assert paths_of(tree, LABELLED) == found


def test_one_bad_entry_never_blocks_the_rest(tmp_path):
    (tmp_path / "good.jpg").write_text("x")
    (tmp_path / "self").symlink_to("self")
    assert [(entry.path, entry.size) for entry in LocalStorage(tmp_path).walk()] == [("good.jpg", 1), ("self", -1)]
    assert paths_of(tmp_path, PLAIN) == ["good.jpg", "self"]


def test_a_folder_that_cannot_be_listed_is_an_input_to_be_rejected(tmp_path, monkeypatch):
    for name in ("a/good.jpg", "shut/in.jpg", "z.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    scandir = os.scandir

    def refusing(folder):
        if folder.endswith(b"shut/"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    assert paths_of(tmp_path, PLAIN) == ["a/good.jpg", "shut", "z.jpg"]
    assert paths_of(tmp_path / "**/*.jpg", PLAIN) == ["a/good.jpg", "shut", "z.jpg"]
    assert paths_of(tmp_path / "a/*.jpg", PLAIN) == ["good.jpg"]


@pytest.mark.parametrize(
    ("pattern", "found", "entered"),
    [
        ("*.jpg", ["top.jpg"], []),
        ("a/*.jpg", ["x.jpg"], []),
        ("?/*/x.jpg", ["a/c/x.jpg"], ["a", "a/c", "b", "b/d"]),
        ("a/**/x.jpg", ["c/x.jpg", "x.jpg"], ["a/c"]),
        ("**/y.jpg", ["b/d/y.jpg"], ["a", "a/c", "b", "b/d", "other", "other/deep"]),
    ],
)
def test_a_glob_walks_only_what_it_can_match(tmp_path, monkeypatch, pattern, found, entered):
    for name in ("top.jpg", "a/x.jpg", "a/c/x.jpg", "b/d/y.jpg", "other/deep/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    scandir, listed = os.scandir, []

    def listing(folder):
        listed.append(os.fsdecode(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", listing)
    assert paths_of(tmp_path / pattern, PLAIN) == found
    assert sorted(path.rstrip("/") for path in listed)[1:] == [f"{tmp_path}/{name}" for name in entered]


def test_folders_nest_as_deep_as_the_system_allows(tmp_path):
    depth = 1200
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(os.open("deepest.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    try:
        assert paths_of(tmp_path, PLAIN) == ["d/" * depth + "deepest.jpg"]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # shutil's rmtree is recursive


def test_a_path_longer_than_the_system_takes_is_rejected_by_name(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        here, above = os.open("d" * 250, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    (tmp_path / "good.jpg").write_text("x")
    first, second = paths_of(tmp_path, PLAIN)
    assert first.startswith("d" * 250) and second == "good.jpg"


def test_every_file_is_tried_whatever_its_name(tmp_path):
    names = [
        b"nosuffix",
        b"new\nline.jpg",
        b"a\xff.jpg",
        b"a\\xff.jpg",
        b"a\\\\xff.jpg",
        b"trailing.",
        b"n" * 251 + b".jpg",
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_text("x")
    paths = paths_of(tmp_path, PLAIN)
    assert sorted(map(os.fsencode, paths)) == sorted(names)
    assert all(PLAIN.picture(path) is not None for path in paths)
    assert len({printable(path) for path in paths}) == len(names)


def test_the_fingerprint_sees_sizes_and_labels(tree):
    before = find_inputs(tree, LABELLED).fingerprint
    assert find_inputs(tree, LABELLED).fingerprint == before
    (tree / "truth/a.png").write_text("longer than it was")
    assert find_inputs(tree, LABELLED).fingerprint != before


def test_a_name_that_is_no_utf8_is_an_input_with_a_printable_name(tree):
    (tree / os.fsdecode(b"caf\xe9.jpg")).write_text("x")
    paths = paths_of(tree, LABELLED)
    assert [printable(path) for path in paths][2] == "caf\\xe9.jpg"


def test_the_order_is_a_permutation_that_only_the_seed_decides(tmp_path):
    for number in range(200):
        (tmp_path / f"{number:03d}.jpg").touch()
    inputs = find_inputs(tmp_path, PLAIN)
    order = shuffled(inputs, 0, tar_window=16).tolist()
    assert sorted(order) == list(range(200)) != order
    assert order == shuffled(inputs, 0, tar_window=3).tolist() != shuffled(inputs, 1, tar_window=16).tolist()
    assert [inputs[number].path for number in order[:3]] == ["195.jpg", "104.jpg", "007.jpg"]


def test_sources_without_inputs_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such source"):
        find_inputs(tmp_path / "nowhere", PLAIN)
    with pytest.raises(InputError, match=r"no pictures in the source.*give the folder"):
        find_inputs(tmp_path, PLAIN)
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth/a.png").touch()
    with pytest.raises(InputError, match="label maps do not count"):
        find_inputs(tmp_path, LABELLED)
    with pytest.raises(InputError, match="the source is no folder, list or tar"):
        find_inputs(tmp_path / "truth/a.png", PLAIN)
    with pytest.raises(InputError, match=r"unknown kind of address 'ftp://'.*s3:// or gs://"):
        find_inputs("ftp://host/pictures", PLAIN)

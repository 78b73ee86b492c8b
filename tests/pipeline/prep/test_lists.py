"""Globs and lists as sources, on disks and stores."""

import secrets
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sharding import blobs, entries_of, jpeg, shard_serially

from vice.data_specs.dataset import load_dataset
from vice.data_specs.errors import InputError
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.inputs import find_inputs
from vice.pipeline.prep.lists import read_list
from vice.pipeline.prep.sources import glob_expression
from vice.pipeline.shards import Shards
from vice.pipeline.storage.local import LocalStorage
from vice.pipeline.storage.opening import open_storage

PLAIN = load_dataset("image_folder")
FILES = ("a.jpg", "b.jpg", "c.png", "d/a.jpg", "d/e/b.jpg", "x[1]/a.jpg")


def paths_of(source, spec=PLAIN):
    inputs = find_inputs(source, spec)
    return [inputs[number].path for number in range(len(inputs))]


@pytest.fixture(params=["disk", "s3"])
def folder(request, tmp_path):
    """The address of a folder of some files."""
    address = str(tmp_path / "photos")
    if request.param == "s3":
        request.getfixturevalue("s3")
        address = f"s3://pictures/{secrets.token_hex(4)}"
    for name in FILES:
        open_storage(address).write(name, name.encode())
    return address


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", ["a.jpg", "b.jpg"]),
        ("**/*.jpg", ["a.jpg", "b.jpg", "d/a.jpg", "d/e/b.jpg", "x[1]/a.jpg"]),
        ("[ab].*", ["a.jpg", "b.jpg"]),
        ("[!a].???", ["b.jpg", "c.png"]),
        ("d/**", ["a.jpg", "e/b.jpg"]),
        ("x[[]1]/*", ["x[1]/a.jpg"]),
    ],
)
def test_globs(folder, pattern, found):
    assert paths_of(f"{folder}/{pattern}") == found


def test_a_glob_without_files_and_one_that_is_none_are_refused(folder):
    with pytest.raises(InputError, match="no pictures in the source"):
        find_inputs(f"{folder}/*.gif", PLAIN)
    with pytest.raises(InputError, match="not a glob"):
        find_inputs(f"{folder}/[z-a].jpg", PLAIN)


def test_a_folder_that_really_has_brackets_is_that_folder(tmp_path):
    (tmp_path / "x[1]").mkdir()
    (tmp_path / "x[1]/a.jpg").touch()
    (tmp_path / "list[1].txt").write_text("x[1]/a.jpg\n")
    assert paths_of(tmp_path / "x[1]") == ["a.jpg"]
    assert paths_of(tmp_path / "list[1].txt") == ["x[1]/a.jpg"]


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("d[!ab]x", ["dcx"], ["dax", "d/x"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[!]]", ["a"], ["]"]),
        ("[^a]", ["^", "a"], ["b"]),
        (r"[\d]", ["\\", "d"], ["1"]),
        ("a[", ["a["], ["a"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_expressions_of_globs(pattern, fits, fits_not):
    expression = glob_expression(pattern)
    assert all(expression.fullmatch(path) for path in fits)
    assert not any(expression.fullmatch(path) for path in fits_not)


def write_list(folder, name, paths):
    storage = open_storage(folder)
    if name.lower().endswith(".parquet"):
        with storage.create(name) as file:
            pq.write_table(pa.table({"path": [*paths, None], "other": [1] * (len(paths) + 1)}), file)
    elif name.endswith(".csv"):
        rows = "".join(f'1,"{path}"\r\n' for path in paths)
        storage.write(name, b"\xef\xbb\xbf" + f"other,path\r\n{rows}2,\r\n".encode())
    else:
        storage.write(name, ("# a comment\n\n" + "\r\n".join(paths)).encode())
    return f"{folder}/{name}"


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "List.PARQUET"])
def test_lists_hold_relative_and_absolute_paths_each_counted_once(folder, name):
    listed = ["d/e/b.jpg", f"{folder}/a.jpg", "a.jpg", "d/../b.jpg", "./b.jpg", "gone, \u2028.jpg"]
    found = write_list(folder, name, listed)
    assert paths_of(found) == ["a.jpg", "b.jpg", "d/e/b.jpg", "gone, \u2028.jpg"]


def test_a_list_of_files_elsewhere_has_their_common_folder_as_root(folder):
    found = write_list(f"{folder}/lists", "list.txt", [f"{folder}/d/a.jpg", f"{folder}/d/e/b.jpg"])
    assert paths_of(found) == ["a.jpg", "e/b.jpg"]


def test_lists_that_cannot_be_one_are_refused(s3, tmp_path):
    def refuse(name, text, told):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=told):
            find_inputs(tmp_path / name, PLAIN)

    refuse("a.txt", "\n#\n", "the list is empty")
    refuse("a.txt", "s3://pictures/a.jpg\nb.jpg\n", r"on disks and on stores.*give one list for each")
    refuse("a.txt", "s3://pictures/a.jpg\ns3://other/b.jpg\n", "several buckets")
    refuse("a.txt", "a.jpg\nb\0.jpg\n", "a NUL character")
    refuse("a.csv", "file,size\na.jpg,1\n", r"no column 'path' \(columns: file, size\)")
    refuse("a.csv", "", r"no column 'path' \(columns: none\)")
    refuse("a.csv", "path\n" + "x" * 200_000, "the list is no CSV")
    refuse("a.parquet", "no table", "no list with a column 'path'")
    pq.write_table(pa.table({"file": ["a.jpg"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="no list with a column 'path'"):
        find_inputs(tmp_path / "b.parquet", PLAIN)
    for gone in ("s3://pictures/no/list.csv", "s3://pictures/no/x.tar", "s3://no-such-bucket/x/"):
        with pytest.raises(InputError) as error:
            find_inputs(gone, PLAIN)
        assert "\n" not in str(error.value)


def test_folder_glob_and_list_give_the_same_samples(folder, tmp_path):
    """Also where OUT lies below the root of a list, and not where it would lie in the source."""
    storage = open_storage(folder)
    names = [f"p/{number}.jpg" for number in range(5)]
    for number, name in enumerate(names):
        storage.write(name, jpeg(blobs(48, 40, number)))
    write_list(f"{folder}/p", "list.txt", [*(name[2:] for name in names), "gone.jpg"])
    settings = PrepSettings(samples_per_shard=3)
    outs = {"list": f"{folder}/p/out", "glob": tmp_path / "glob", "folder": tmp_path / "folder"}
    shard_serially(f"{folder}/p/list.txt", outs["list"], settings)
    shard_serially(f"{folder}/p/*.jpg", outs["glob"], settings)
    storage.delete_folder("p/out")
    storage.delete("p/list.txt")
    with pytest.raises(InputError, match="OUT lies in the source folder"):
        shard_serially(f"{folder}/p", f"{folder}/p/out", settings)
    shard_serially(f"{folder}/p", outs["folder"], settings)
    assert Shards(outs["glob"]).record == Shards(outs["folder"]).record
    assert entries_of(open_storage(outs["glob"])) == [name[2:] for name in names]


def test_every_listed_path_is_stored_or_rejected(folder, tmp_path):
    open_storage(folder).write("good.jpg", jpeg(blobs(48, 40, 1)))
    found = write_list(folder, "list.csv", ["good.jpg", "a.jpg", "gone.jpg", "gone.tar"])
    shard_serially(found, tmp_path / "out", PrepSettings())
    assert entries_of(open_storage(tmp_path / "out")) == ["a.jpg", "gone.jpg", "gone.tar", "good.jpg"]


def test_labels_are_found_beside_a_glob_or_list_of_pictures_alone(source, spec, tmp_path):
    """Also of a dataset that says where its label maps come from, and refuses a folder without any."""
    spec = spec.model_copy(update={"source": "fetch it by hand"})
    (source.parent / "list").mkdir()
    (source.parent / "list/some.txt").write_text(f"{source}/readme.txt\n{source}/images/p00.jpg\n")
    shard_serially(source.parent / "list/some.txt", tmp_path / "out", PrepSettings(), spec)
    assert Shards(tmp_path / "out").has_labels and entries_of(open_storage(tmp_path / "out"))[0] == "images/p00.jpg"


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_a_long_list_is_read_in_pieces(tmp_path, monkeypatch, kind):
    """Of Python objects a piece at a time; the rest is bytes in arrays."""
    monkeypatch.setattr("vice.pipeline.prep.lists._PIECE", 1000)
    monkeypatch.setattr("vice.pipeline.prep.lists.CHUNK", 1 << 16)
    paths = [f"s3://bucket/collection/{number * 7919 % 30_000:06}/ü.jpg" for number in range(30_000)]
    source = write_list(str(tmp_path), f"list.{kind}", paths)
    read_list(source)  # imports take memory
    tracemalloc.start()
    listed = read_list(source)
    count = sum(len(piece) for piece in listed.relative())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == len(paths) == len(set(listed.paths.to_pylist()))
    assert listed.root == "s3://bucket/collection" and next(listed.relative())[:2] == ["000000/ü.jpg", "000001/ü.jpg"]
    assert peak < 8 << 20  # 4 MiB are a piece of the file


def test_characters_and_lines_may_lie_across_the_pieces_of_a_file(tmp_path, monkeypatch):
    write_list(str(tmp_path), "list.txt", ["ü.jpg", "b\u2028.jpg"])
    data = (tmp_path / "list.txt").read_bytes()
    monkeypatch.setattr(LocalStorage, "chunks", lambda *_: (bytes([one]) for one in data))
    assert paths_of(tmp_path / "list.txt") == ["b\u2028.jpg", "ü.jpg"]

"""`vice-eval regions`: layers beside their grids, on labels and on segmentations by hand."""

import sys

import cv2
import numpy as np
import pytest
from photographs import photographs
from sharding import blobs, jpeg, png, shard_serially

from vice.data_specs.regions import IGNORE, RegionLayer
from vice.data_specs.results import read_results
from vice.data_specs.shard_format import PrepSettings
from vice.evaluate import cli
from vice.evaluate.regions.job import _Thickness
from vice.evaluate.regions.layers import even_grid, rows_and_columns


@pytest.fixture
def vice_eval(monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vice-eval", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code or 0
        return (code, *capsys.readouterr())

    return run


@pytest.mark.parametrize("count", [1, 7, 100, 430])
@pytest.mark.parametrize(("height", "width"), [(360, 480), (33, 500)])
def test_a_grid_of_equal_count_has_nearly_that_many_even_cells(height, width, count):
    rows, columns = rows_and_columns(height, width, count)
    assert abs(rows * columns - count) <= max(1, 0.06 * count)
    cells = np.bincount(even_grid(height, width, rows, columns).reshape(-1))
    assert len(cells) == rows * columns and cells.min() > 0.5 * cells.max()


def test_a_strip_is_as_thick_as_it_is_wide():
    labels = np.zeros((100, 120), np.uint16)
    labels[:, 40:48] = 1
    labels[:5] = IGNORE
    thickness = _Thickness(3)
    thickness.add(labels)
    found = thickness.of_classes(["ground", "strip", "never"])
    assert list(found) == ["ground", "strip"]
    assert found["strip"] == pytest.approx(8, abs=0.3)
    assert found["ground"] > 60


def test_layers_stand_beside_their_grids(vice_eval, scene_shards, tmp_path):
    code, out, err = vice_eval("regions", scene_shards["val"], "--run-dir", tmp_path)
    assert (code, err) == (0, "")
    (name, bounds), *_ = read_results(tmp_path).regions.items()
    assert (name == "scenes val" and name.split()[0] in out) or out
    stored = bounds.layers[0].layer
    assert [layer.layer for layer in bounds.layers[:3]] == [
        stored,
        f"grid:{stored.removeprefix('slic')}",
        f"grid as many as {stored}",
    ]
    regions, _, as_many = bounds.layers[:3]
    assert as_many.regions.mean == pytest.approx(regions.regions.mean, rel=0.06)
    assert regions.majority.accuracy > as_many.majority.accuracy  # superpixels keep to outlines, cells do not
    for layer in bounds.layers:
        assert layer.best.miou >= layer.majority.miou
        assert layer.best.accuracy <= layer.majority.accuracy
        assert layer.boundary_recall is None
    assert min(bounds.thickness.values()) > 0
    assert bounds.tiles and all((tmp_path / tile.file).is_file() for tile in bounds.tiles)


@pytest.fixture
def segmented(tmp_path):
    """Two pictures of a red disc on blue without labels, with two segmentations each."""
    for folder in ("pictures", "by-hand"):
        (tmp_path / folder).mkdir()
    for number in range(2):
        truth = cv2.circle(np.zeros((80, 120), np.uint8), (50 + 10 * number, 40), 25, 1, -1)
        picture = np.where(truth[..., None] > 0, np.uint8([200, 30, 30]), np.uint8([30, 60, 180])).astype(np.uint8)
        (tmp_path / "pictures" / f"p{number}.png").write_bytes(png(picture))
        for annotator in range(2):
            (tmp_path / "by-hand" / f"p{number}_{annotator}.png").write_bytes(png(truth + 1))
    settings = PrepSettings(split="train", picture="png", regions=[RegionLayer.from_text("slic:10")])
    shard_serially(tmp_path / "pictures", tmp_path / "shards", settings)
    return tmp_path


def test_segmentations_by_hand(vice_eval, segmented):
    run_dir = segmented / "eval"
    arguments = ["regions", segmented / "shards", "--run-dir", run_dir, "--segmentations", segmented / "by-hand"]
    code, out, err = vice_eval(*arguments)
    assert (code, err) == (0, "") and "boundary recall" in out
    slic, cells, as_many = read_results(run_dir).regions["image_folder train"].layers
    assert slic.majority is None
    assert slic.boundary_recall.mean > 0.85 > 0.5 > cells.boundary_recall.mean
    assert slic.undersegmentation_error.mean < cells.undersegmentation_error.mean
    assert slic.achievable_accuracy.mean > max(cells.achievable_accuracy.mean, as_many.achievable_accuracy.mean)
    assert slic.compactness.mean < cells.compactness.mean == pytest.approx(np.pi / 4)


def test_what_cannot_be_measured_is_told_in_one_line(vice_eval, segmented, tmp_path):
    shards, run_dir = segmented / "shards", tmp_path / "eval"

    def refused(told: str, *words: object) -> None:
        code, _, err = vice_eval("regions", shards, "--run-dir", run_dir, *words)
        assert code == 2 and told in err and err.count("\n") == 1, err

    by_hand = segmented / "by-hand"
    refused("these shards have no labels")
    refused("no region layer 'slic:99'", "--segmentations", by_hand, "--layer", "slic:99")
    refused("no such folder", "--segmentations", segmented / "none")
    (by_hand / "p1_0.png").write_bytes(png(np.zeros((8, 8), np.uint8)))
    refused("p1_0.png", "--segmentations", by_hand)
    (by_hand / "p1_0.png").write_bytes(jpeg(blobs(120, 80, seed=0)))
    refused("not readable as a map of ids", "--segmentations", by_hand)
    for path in by_hand.glob("p1_*"):
        path.unlink()
    refused("no segmentation of p1.png", "--segmentations", by_hand)


@pytest.mark.photographs
def test_people_s_outlines_of_photographs(vice_eval, tmp_path):
    source = photographs("bsds500", "train")
    (tmp_path / "pictures").mkdir()
    for picture in sorted((source / "images").iterdir())[:3]:
        (tmp_path / "pictures" / picture.name).symlink_to(picture)
    settings = PrepSettings(split="train", regions=[RegionLayer.from_text("slic:20")])
    shard_serially(tmp_path / "pictures", tmp_path / "shards", settings)
    segmentations = source / "labels"
    words = ["--run-dir", tmp_path / "eval", "--segmentations", segmentations]
    assert vice_eval("regions", tmp_path / "shards", *words)[0] == 0
    slic, cells, _ = read_results(tmp_path / "eval").regions["image_folder train"].layers
    assert slic.boundary_recall.mean > cells.boundary_recall.mean + 0.1
    assert slic.achievable_accuracy.mean > cells.achievable_accuracy.mean > 0.8

"""`vice-eval atlas`: from shards to strips, sprite and record."""

import sys

import cv2
import numpy as np
import pytest

from vice.data_specs.results import read_results
from vice.evaluate import cli
from vice.evaluate.atlas import lookup
from vice.pipeline.shards import Shards


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


def test_concepts_of_training_and_nearest_regions(vice_eval, scene_shards, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(lookup, "POOL_SIZE", 30)
    shards = Shards(scene_shards["train"])
    key = shards.keys[1]
    arguments = ["atlas", checkpoints["first"], "--val", scene_shards["train"], "--choose", f"{key}:20,30"]
    code, out, err = vice_eval(*arguments, "--run-dir", tmp_path / "a")
    assert (code, err) == (0, "")
    assert "of 16 concepts in use" in out and f"nearest-{key}-20-30.png" in out
    (found,) = read_results(tmp_path / "a").atlases.values()
    assert len(found.concepts) == 16
    assert sum(concept.usage for concept in found.concepts) == pytest.approx(1)
    for concept in found.concepts:
        assert (concept.strip is None) == (concept.usage == 0)
        if concept.strip:
            strip = cv2.imread(str(tmp_path / "a" / concept.strip))
            assert strip.shape == (96, 96 * 8, 3)
            assert sum(concept.classes.values()) == pytest.approx(1) or not concept.classes
            assert [r.similarity for r in concept.regions] == sorted(
                (r.similarity for r in concept.regions), reverse=True
            )
            keys = [region.key for region in concept.regions]
            assert max(map(keys.count, keys)) <= 2
    pool, shown = found.lookup.pool, {picture.key for picture in found.lookup.pictures}
    assert key in shown and 0 < len(pool) <= 30
    assert not shown & {region.key for region in pool}, "the nearest regions are always of other pictures"
    for picture in found.lookup.pictures:
        coded = cv2.imread(str(tmp_path / "a" / picture.regions), cv2.IMREAD_COLOR_RGB).astype(int)
        stored = shards.sample(shards.keys.index(picture.key)).regions["slic12"]
        np.testing.assert_array_equal(np.unique(coded[..., 0] + 256 * coded[..., 1]), np.unique(stored))
        assert len(picture.nearest) == len(picture.similarity) == stored.max() + 1
        assert all(row == sorted(row, reverse=True) for row in picture.similarity)
    sprite = cv2.imread(str(tmp_path / "a" / found.lookup.sprite))
    assert sprite.shape == (64 * -(-len(pool) // 40), 64 * 40, 3)
    assert (tmp_path / "a" / "pictures" / f"nearest-{key}-20-30.png").is_file()

    assert vice_eval(*arguments, "--run-dir", tmp_path / "b")[0] == 0
    (again,) = read_results(tmp_path / "b").atlases.values()
    assert again.model_copy(update={"seconds": 0}) == found.model_copy(update={"seconds": 0})


def test_an_encoder_without_concepts_has_its_regions_clustered(vice_eval, scene_shards, tmp_path):
    shards = ["--val", scene_shards["val"], "--run-dir", tmp_path]
    assert vice_eval("atlas", "timm/regnetx_002", *shards, "--dims=8", "--k=5", "--examples=3")[0] == 0
    (found,) = read_results(tmp_path).atlases.values()
    assert len(found.concepts) == 5 and found.settings["concepts"] == "k-means of regions"
    assert all(1 <= len(concept.regions) <= 3 for concept in found.concepts)
    assert (found.settings["encoder"]["levels"], found.settings["encoder"]["dim"]) == ("all", 8)
    assert found.settings["encoder"]["fitted_on"]["shards"] == Shards(scene_shards["val"]).fingerprint
    code, _, err = vice_eval("atlas", "timm/regnetx_002", *shards, "--dims=8", "--k=99999")
    assert code == 2 and "99999 clusters asked of" in err and err.count("\n") == 1


def test_what_is_not_there_is_told_in_one_line(vice_eval, scene_shards, checkpoints, tmp_path):
    def refused(told: str, shards, *words: object) -> None:
        code, _, err = vice_eval("atlas", checkpoints["first"], "--val", shards, "--run-dir", tmp_path / "x", *words)
        assert code == 2 and told in err and err.count("\n") == 1, err

    shards = scene_shards["val"]
    key = Shards(shards).keys[0]
    refused("no region layer 'slic:99'", shards, "--layer", "slic:99")
    refused("no sample nobody", shards, "--choose", "nobody:1,2")
    refused("lies outside the picture", shards, "--choose", f"{key}:9999,2")
    refused("not a choice", shards, "--choose", key)

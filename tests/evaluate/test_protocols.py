"""The published protocols on real photographs: COCO-Stuff in 27 and 182 classes, Cityscapes in 19 and 27."""

import sys

import numpy as np
import pytest
from photographs import photographs
from sharding import shard_serially

from vice.data_specs.dataset import load_dataset
from vice.data_specs.results import read_results
from vice.data_specs.shard_format import PrepSettings
from vice.evaluate import cli

pytestmark = pytest.mark.photographs


def evaluate(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["vice-eval", *map(str, words)])
    try:
        cli.main()
    except SystemExit as exit_:
        assert not exit_.code


def split(dataset: str, folder, num_train: int) -> None:
    """Shards `train` and `val` of a dataset's sample, small."""
    source = photographs(dataset, "train")
    pictures = sorted((source / "images").iterdir())
    spec = load_dataset(dataset)
    for name, some in (("train", pictures[:num_train]), ("val", pictures[num_train:])):
        for picture in some:
            label = source / spec.picture(f"images/{picture.name}").label
            for file in (picture, label):
                (folder / name / file.parent.name).mkdir(parents=True, exist_ok=True)
                (folder / name / file.parent.name / file.name).symlink_to(file)
        shard_serially(folder / name, folder / f"{name}-shards", PrepSettings(split=name, short_side=160), spec)


@pytest.mark.parametrize(
    ("dataset", "num_train", "sets"),
    [("coco_stuff", 10, {None: 182, "27": 27}), ("cityscapes", 3, {None: 27, "19": 19})],
)
def test_every_protocol_of_a_dataset(dataset, num_train, sets, checkpoints, tmp_path, monkeypatch):
    split(dataset, tmp_path, num_train)
    data = ["--train", tmp_path / "train-shards", "--val", tmp_path / "val-shards", "--run-dir", tmp_path / "eval"]
    for class_set in sets:
        words = [] if class_set is None else ["--classes", class_set]
        evaluate(monkeypatch, "all", checkpoints["first"], *data, "--memory-size=1000", "--max-vectors=4000", *words)
    entries = read_results(tmp_path / "eval").evaluations
    for class_set, num_classes in sets.items():
        prefix = "" if class_set is None else f"classes-{class_set} "
        clusters = (f"cluster-{num_classes} {kind}" for kind in ("greedy train-fitted", "hungarian val-fitted"))
        for name in ("linear", "neighbors", *clusters):
            by_encoder = entries[prefix + name].encoders
            assert len(by_encoder) == 6
            for encoder, by_condition in by_encoder.items():
                score = by_condition["clean"]
                assert len(score.iou) == num_classes
                # better than always saying the most frequent class cannot be asked of so few pictures: sense can
                assert 0 < score.miou < 1 and 0 < score.accuracy < 1, (name, encoder)
    stored, coarse = (entries[f"{p}linear"].encoders["trained"]["clean"] for p in ("", f"classes-{[*sets][1]} "))
    assert np.sum(coarse.confusion) <= np.sum(stored.confusion)

"""Tiny labelled shards (made by the real steps, without Ray), and checkpoints of a small network."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from sharding import blobs, png, shard_serially

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.shards import Shards

# Shapes and dtypes in signatures are checked at run time in these tests; must come before the first import.
install_import_hook("vice.evaluate", "beartype.beartype")

CLASSES = ["reddish", "greenish", "bluish", "never"]
UNLABELLED_SHARE = 0.2


def spec(classes: list[str] = CLASSES, *, grouped: bool = True) -> DatasetSpec:
    group = "(?P<group>[^_/]+)" if grouped else "[^_/]+"
    return DatasetSpec(
        name="tiny",
        title="blobs, labelled by their strongest colour",
        pictures=rf"^images/(?P<id>{group}_[^/]+)\.png$",
        labels="labels/{id}.png",
        classes=classes,
        ignore=[255],
        class_sets={"2": {"classes": ["warm", "cold"], "of": [0, None, 1, 1]}},
    )


def write_pictures(source: Path, drives: dict[str, int], seed: int) -> None:
    """Some drives of blobs; the last picture of each has another size, and sides that no network takes as they are."""
    (source / "images").mkdir(parents=True)
    (source / "labels").mkdir()
    for drive, count in drives.items():
        for number in range(count):
            seed += 1
            width, height = (96, 64) if number < count - 1 else (75, 50)
            picture = blobs(width, height, seed)
            labels = cv2.blur(picture, ksize=(5, 5)).argmax(axis=2).astype(np.uint8)
            draws = np.random.Generator(np.random.Philox(key=seed)).random(labels.shape)
            labels[draws < UNLABELLED_SHARE] = 255
            (source / "images" / f"{drive}_{number}.png").write_bytes(png(picture))
            (source / "labels" / f"{drive}_{number}.png").write_bytes(png(labels))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Work this small is slower on several threads, and much slower where they must share the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> dict[str, Path]:
    """Folders of shards: `train`, `val`, and val in other guises: `unlabelled`, `other_classes`, `ungrouped`; and
    `mixed`: four pictures of train and another one."""
    folder = tmp_path_factory.mktemp("tiny")
    write_pictures(folder / "a", {"north": 4, "south": 3}, seed=100)
    write_pictures(folder / "b", {"south": 2, "west": 3}, seed=200)
    write_pictures(folder / "c", {"north": 4, "west": 1}, seed=100)
    settings = {split: PrepSettings(split=split, picture="png") for split in ("train", "val")}
    shard_serially(folder / "a", folder / "train", settings["train"], spec())
    shard_serially(folder / "b", folder / "val", settings["val"], spec())
    shard_serially(folder / "b" / "images", folder / "unlabelled", settings["val"])
    shard_serially(folder / "b", folder / "other_classes", settings["val"], spec(CLASSES[::-1]))
    shard_serially(folder / "b", folder / "ungrouped", settings["val"], spec(grouped=False))
    shard_serially(folder / "c", folder / "mixed", settings["val"], spec())
    return {path.name: path for path in folder.iterdir() if (path / "dataset.json").exists()}


@pytest.fixture(scope="session")
def train(tiny) -> Shards:
    return Shards(tiny["train"])


@pytest.fixture(scope="session")
def val(tiny) -> Shards:
    return Shards(tiny["val"])


def save_run(run: Path, name: str, seed: int, train: Shards, **model) -> Path:
    """The last checkpoint of a run that ended with other weights than it began with."""
    from vice.train.config import AssignmentConfig, ModelConfig, TrainConfig
    from vice.train.network.model import build_model
    from vice.train.records.checkpoint import save_checkpoint

    settings = ModelConfig(decoder_channels=64, embedding_dim=8, **model)
    config = TrainConfig(name=f"tiny-{name}", model=settings, assignment=AssignmentConfig(num_concepts=16), seed=seed)
    state = {
        "step": 30,
        "num_steps": 40,
        "views_seen": 1234,
        "config": config.model_dump(mode="json"),
        "loader": {"shards": train.fingerprint},
        "model": build_model(config.model_copy(update={"seed": 10 + seed})).state_dict(),
    }
    path = save_checkpoint(run, state, keep=1)
    lines = [json.dumps({"step": step, "loss": 3.0 - step / 100}) for step in range(10, 41, 10)]
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 41, "lo']), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, train) -> dict[str, Path]:
    """Checkpoint files of two runs with metrics: `first`, `second`."""
    names = enumerate(("first", "second"))
    return {name: save_run(tmp_path_factory.mktemp(name), name, seed, train) for seed, name in names}


@pytest.fixture
def pretrained(tmp_path, train) -> Path:
    """A checkpoint of a run that started from the file `weights.pth` in the folder of its run."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(7)
        weights = timm.create_model("regnetx_002").state_dict()
    run = tmp_path / "pretrained"
    run.mkdir()
    torch.save(weights, run / "weights.pth")
    return save_run(run, "pretrained", 0, train, encoder="regnetx_002", weights=str(run / "weights.pth"))

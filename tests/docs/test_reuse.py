"""docs/reuse.md: every block of Python runs as it stands, in a folder of real shards, and leaves what its text says."""

import io
import re
from pathlib import Path

import cv2
import datasets
import numpy as np
import nvidia.dali.fn as fn
import nvidia.dali.types as types
import pyarrow.parquet as pq
import pytest
import torch
from nvidia.dali import pipeline_def
from PIL import Image
from sharding import shard_serially

from vice.data_specs.dataset import load_dataset
from vice.data_specs.regions import IGNORE, RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.scenes.scene import make_scene
from vice.pipeline.shards import Shards

PROJECT = Path(__file__).resolve().parents[2]
NUM, WIDTH, HEIGHT = 10, 400, 320
BLOCK = re.compile(r"^(?P<marks>#+) (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def blocks(name):
    """Heading to the Python below it, of a document; one block a heading."""
    found, heading = {}, None
    for match in BLOCK.finditer((PROJECT / name).read_text()):
        if match["heading"]:
            heading = match["heading"]
            continue
        assert heading not in found, f"two blocks below '{heading}'"
        found[heading] = match["code"]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `shards/train`: scenes, enlarged so that a picture has more regions than 8 bits can number."""
    folder = tmp_path_factory.mktemp("reuse")
    for kind in ("images", "labels"):
        (folder / "pictures" / kind).mkdir(parents=True)
    for number in range(NUM):
        scene = make_scene(7, "train", number)
        picture = cv2.resize(scene.picture[..., ::-1], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        labels = cv2.resize(scene.labels, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"pictures/images/{number}.jpg"), picture)
        cv2.imwrite(str(folder / f"pictures/labels/{number}.png"), labels)
    settings = PrepSettings(regions=[RegionLayer(method="slic", size=size) for size in (20, 40)], samples_per_shard=4)
    shard_serially(folder / "pictures", folder / "shards" / "train", settings, load_dataset("scenes"))
    return folder


@pytest.fixture
def shards(folder, monkeypatch, tmp_path):
    """The shards, opened; the working folder is the one that the blocks run in."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    return Shards(folder / "shards" / "train")


def run(document, heading):
    """What a block leaves behind: its names."""
    names = {"__name__": "__main__"}
    exec(compile(blocks(document)[heading], f"{document}, {heading}", "exec"), names)
    return names


def assert_same(shards, key, picture, regions):
    mine = shards[shards.keys.index(key)]
    assert np.array_equal(picture, mine.picture)
    assert regions.dtype == np.uint16 and np.array_equal(regions, mine.regions["slic20"])


def numpy_arrays(names, shards):
    meta = names["sample"].meta
    assert names["sample"].picture.shape == (meta["height"], meta["width"], 3) == (HEIGHT, WIDTH, 3)
    assert names["largest"] == max(dict(row)["slic20"] for row in shards.manifest["num_regions"].to_pylist()) > 256


def torch_dataset(names, shards):
    batches = names["pictures"]
    assert [tuple(batch.shape) for batch in batches] == [(size, 3, HEIGHT, WIDTH) for size in (4, 4, 2)]
    order = [sample["number"] for sample in names["dataset"]]
    assert sorted(order) == list(range(NUM)) != order
    for number, picture in zip(order, torch.cat(batches), strict=True):
        assert np.array_equal(picture.permute(1, 2, 0).numpy(), shards[number].picture)
    names["dataset"].set_epoch(0)
    assert order != [sample["number"] for sample in names["dataset"]]
    assert list(names["dataset"].sample(0)["regions"]) == ["slic20"]


def views(names, shards):
    batch = names["batch"]
    assert batch.images.shape == (2, 4, 3, 128, 128) and batch.regions.shape == (2, 4, 128, 128)
    assert set(batch.keys) < set(shards.keys) and names["state"]["step"] == 1
    for picture, count in enumerate(batch.num_regions.tolist()):
        ids = batch.regions[:, picture]
        assert set(ids[ids != IGNORE].tolist()) <= set(range(count))


def other_layers(names, shards):
    assert list(names["coarse"].regions) == ["slic40"]
    assert np.array_equal(names["coarse"].regions["slic40"], shards[0].regions["slic40"])
    highest = [int(batch.region_ids.max()) for batch in names["batches"].values()]
    stored = max(dict(row)["slic40"] for row in shards.manifest["num_regions"].to_pylist())
    cells = (WIDTH // 16) * (HEIGHT // 16)
    assert 0 < highest[0] < stored < highest[1] < cells < highest[2] < WIDTH * HEIGHT


def selected(names, shards):
    counts = [len(np.unique(sample.regions["slic20"])) for sample in shards]
    expected = [number for number, count in enumerate(counts) if count > np.mean(counts)]
    assert names["numbers"].tolist() == expected and 0 < len(expected) < NUM
    assert [sample.key for sample in names["rich"]] == [shards.keys[number] for number in expected]


def classifier(names, shards):
    assert len(names["losses"]) == 3 * (NUM // 4) and np.isfinite(names["losses"]).all()
    assert len(set(names["losses"])) == len(names["losses"])
    torch.manual_seed(0)
    fresh = names["resnet18"](weights=None, num_classes=len(shards.classes))
    assert not torch.equal(fresh.fc.weight, names["model"].fc.weight)
    for number, sample in enumerate(shards):
        picture, chosen = names["dataset"].sample(number)
        areas = [(sample.labels == index).sum() for index in range(len(shards.classes))]
        assert picture.shape == (3, 96, 96) and areas[chosen] == max(areas)


def region_features(names, shards):
    table = pq.read_table("features.parquet")
    counts = [len(np.unique(sample.regions["slic20"])) for sample in shards]
    assert table.column_names == ["key", "region", "pixels", "features"] and len(table) == sum(counts)
    sample = shards[3]
    picture = (torch.from_numpy(sample.picture).permute(2, 0, 1) / 255 - names["mean"]) / names["std"]
    with torch.inference_mode():
        low = names["network"](picture[None])[0]
    features = torch.nn.functional.interpolate(low, size=(HEIGHT, WIDTH), mode="bilinear")[0]
    for region in (0, 100, counts[3] - 1):
        row = table.slice(sum(counts[:3]) + region, 1).to_pylist()[0]
        inside = sample.regions["slic20"] == region
        assert (row["key"], row["region"], row["pixels"]) == (sample.key, region, inside.sum())
        np.testing.assert_allclose(row["features"], features[:, inside].mean(dim=1), rtol=1e-3, atol=1e-5)


def plain_webdataset(names, shards):
    assert [sample["key"] for sample in names["samples"]] == shards.keys
    assert sorted(sample["key"] for sample in names["shuffled"]) == shards.keys
    assert [sample["key"] for sample in names["shuffled"]] != shards.keys
    for sample in names["samples"] + names["shuffled"]:
        assert_same(shards, sample["key"], sample["picture"], sample["regions"])


def hugging_face(names, shards):
    assert_same(shards, names["sample"]["__key__"], names["picture"], names["regions"])
    assert len(list(names["stream"])) == NUM


def plain_dali(names, shards):
    for number in range(4):
        picture, regions = (np.asarray(names[output].at(number)) for output in ("pictures", "regions"))
        assert_same(shards, shards.keys[number], picture, regions[..., 0])
    assert np.array_equal(names["first"], shards[0].regions["slic20"])


CHECKS = {
    "NumPy arrays": numpy_arrays,
    "A torch dataset": torch_dataset,
    "Views with regions": views,
    "Another layer of regions": other_layers,
    "Selecting pictures": selected,
    "Training a classifier": classifier,
    "Another network's features, a vector per region": region_features,
    "webdataset": plain_webdataset,
    "Hugging Face datasets": hugging_face,
    "DALI": plain_dali,
}


def test_every_block_is_run():
    assert list(blocks("docs/reuse.md")) == list(CHECKS)
    assert list(blocks("README.md")) == ["A batch"]


@pytest.mark.parametrize("heading", CHECKS)
def test_a_block_runs_and_leaves_what_it_says(shards, heading):
    CHECKS[heading](run("docs/reuse.md", heading), shards)


def test_the_readme_reads_a_batch(shards):
    batch = run("README.md", "A batch")["batch"]
    assert batch.images.shape == (2, 16, 3, 256, 256) and set(batch.keys) == set(shards.keys)


def test_eight_bits_spoil_a_map_as_the_document_says():
    ids = np.arange(400, dtype=np.uint16).reshape(20, 20)
    ids[0, 0] = IGNORE
    data = cv2.imencode(".png", ids)[1]
    stored = Image.open(io.BytesIO(data.tobytes()))
    assert np.array_equal(np.asarray(stored), ids)
    for mode in ("L", "RGB"):
        assert np.array_equal(np.atleast_3d(np.asarray(stored.convert(mode)))[..., 0], np.minimum(ids, 255))
    # to the nearest, or downwards: nearly all of the first 400 ids become one of two numbers either way
    assert np.abs(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) - ids / 256).max() <= 1

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def graph():
        return fn.decoders.image(fn.external_source([[data.ravel()]]), output_type=types.ANY_DATA)

    pipeline = graph()
    pipeline.build()
    assert np.abs(np.asarray(pipeline.run()[0].at(0))[..., 0] - ids / 256).max() <= 1

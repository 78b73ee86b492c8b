"""What all tests share: helpers, shards of generated scenes, and CI's refusal to skip what needs photographs."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

# their `datasets` looks for news on the net otherwise
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

if "PYTEST_XDIST_WORKER" in os.environ:
    # several processes test beside each other: threads of torch that wait for each other by spinning would take the
    # cores from the other processes' threads
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from photographs import data_folder
from s3_server import s3_server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a test that needs photographs must not be skipped while they are there."""
    report = yield
    if report.skipped and os.environ.get("CI") and data_folder() and item.get_closest_marker("photographs"):
        report.outcome = "failed"
        report.longrepr = "skipped although the photographs are there"
    return report


def pytest_collection_modifyitems(items):
    """Tests that need a GPU say so where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU: make gpu-check runs it"))


@pytest.fixture(scope="session")
def s3():
    """An S3 server, named by the environment: processes started after it find it."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def scene_shards(tmp_path_factory) -> dict[str, Path]:
    """Shards of a few generated scenes by split, made by the real job in this process."""
    from vice.data_specs.dataset import load_dataset
    from vice.data_specs.regions import RegionLayer
    from vice.data_specs.shard_format import PrepSettings
    from vice.pipeline.prep.job import shard_dataset
    from vice.pipeline.scenes.write import write_scenes

    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder / "pictures", num_train=10, num_val=4, seed=7)
    layers = [RegionLayer(method="slic", size=size) for size in (12, 20)]
    for split in ("train", "val"):
        settings = PrepSettings(split=split, regions=layers, samples_per_shard=4)
        shard_dataset(folder / "pictures" / split, folder / split, settings, load_dataset("scenes"), workers=0)
    return {split: folder / split for split in ("train", "val")}

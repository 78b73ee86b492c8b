"""A folder of pictures with labels and rejections, and its shards, made once for all tests of vice-prep."""

import shutil

import numpy as np
import pytest
from ray.cluster_utils import Cluster
from sharding import blobs, jpeg, png, shard_serially

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings

SPEC_PAGE = r"""
name: quarters
title: blobs with labels
pictures: '^images/(?P<id>\w+)\.(jpg|png)$'
labels: labels/{id}.png
classes: [upper, lower]
"""


@pytest.fixture(scope="session")
def spec():
    return DatasetSpec(
        name="quarters",
        title="blobs with labels",
        pictures=r"^images/(?P<id>\w+)\.(jpg|png)$",
        labels="labels/{id}.png",
        classes=["upper", "lower"],
    )


@pytest.fixture(scope="session")
def spec_page(tmp_path_factory):
    """The same spec, as a user's own file."""
    path = tmp_path_factory.mktemp("spec") / "quarters.yaml"
    path.write_text(SPEC_PAGE)
    return path


@pytest.fixture(scope="session")
def settings():
    return PrepSettings(
        regions=[RegionLayer.from_text("slic:10"), RegionLayer.from_text("slico:16")], samples_per_shard=8
    )


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """36 good pictures of three sizes, JPEG and PNG, and 4 files that must be rejected."""
    folder = tmp_path_factory.mktemp("pictures")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(36):
        width, height = [(96, 72), (64, 80), (81, 67)][number % 3]
        encode, suffix = (png, "png") if number % 4 == 3 else (jpeg, "jpg")
        labels = np.zeros((height, width), np.uint8)
        labels[height // 2 :] = 1
        (folder / f"images/p{number:02d}.{suffix}").write_bytes(encode(blobs(width, height, number)))
        (folder / f"labels/p{number:02d}.png").write_bytes(png(labels))
    (folder / "images/garbage.jpg").write_bytes(b"no picture")
    (folder / "images/empty.png").touch()
    (folder / "images/unlabelled.jpg").write_bytes(jpeg(blobs(64, 64, 99)))
    (folder / "readme.txt").write_text("about these pictures")
    return folder


@pytest.fixture(scope="session")
def shards(source, spec, settings, tmp_path_factory):
    """A complete OUT of these pictures, made in this process: read only."""
    out = tmp_path_factory.mktemp("shards") / "train"
    shard_serially(source, out, settings, spec)
    return out


@pytest.fixture(scope="session")
def cluster(s3):
    """A Ray of two cores for all tests here (starting one takes seconds); its processes find the S3 server."""
    ray_cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield ray_cluster.address
    ray_cluster.shutdown()


@pytest.fixture
def copied(shards, tmp_path):
    """A copy of that OUT, to be damaged."""
    return shutil.copytree(shards, tmp_path / "copied")

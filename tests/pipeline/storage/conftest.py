"""The same folder on a disk and in a bucket."""

import secrets

import pytest
from s3_server import BUCKET

from vice.pipeline.storage.opening import open_storage


@pytest.fixture(params=["disk", "s3"])
def storage(request, tmp_path):
    """An empty folder."""
    if request.param == "disk":
        return open_storage(tmp_path / "folder")
    request.getfixturevalue("s3")
    return open_storage(f"s3://{BUCKET}/{secrets.token_hex(4)}")


@pytest.fixture
def bucket(s3):
    """An empty folder in a bucket."""
    return open_storage(f"s3://{BUCKET}/{secrets.token_hex(4)}")

"""What all tests share: the tests' own helpers by name, and CI's refusal to skip what needs photographs that are there."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from photographs import data_folder  # noqa: E402


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a test that needs photographs must not be skipped while they are there."""
    report = yield
    if report.skipped and os.environ.get("CI") and data_folder() and item.get_closest_marker("photographs"):
        report.outcome = "failed"
        report.longrepr = "skipped although the photographs are there"
    return report

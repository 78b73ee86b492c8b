"""A real browser for the pages that the report writes."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Callable[..., str]:
    """Run Chromium without a window; returns what it printed (the page's DOM with `--dump-dom`)."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: .ci/run installs it")
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    home = tmp_path_factory.mktemp("browser")
    fixed = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000"]

    def run(page: Path, *options: str) -> str:
        command = [found, *fixed, f"--user-data-dir={home / 'profile'}", *options, page.as_uri()]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(home)}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run

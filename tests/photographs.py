"""The shared photographs with labels, for tests: `../shared/data` beside the project, or the folder in VICE_DATA."""

import os
from pathlib import Path

import pytest

_PROJECT = Path(__file__).resolve().parents[1]


def data_folder() -> Path | None:
    """The folder of photographs, or None where this machine has none."""
    named = os.environ.get("VICE_DATA")
    candidates = [Path(named)] if named else [_PROJECT.parent / "shared" / "data"]
    return next((folder for folder in candidates if folder.is_dir()), None)


def photographs(*parts: str) -> Path:
    """A path below the photographs; skips the test where there are none, fails in CI where only this is missing."""
    folder = data_folder()
    if folder is None:
        pytest.skip("no photographs: put them at ../shared/data or name their folder in VICE_DATA")
    path = folder.joinpath(*parts)
    if not path.exists():
        message = f"the photographs lack {'/'.join(parts)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path

"""What a benchmark's numbers depend on, and how it finds the project where that is not installed."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "torchvision", "nvidia-dali-cuda130", "numpy", "opencv-contrib-python")


def data_folder() -> Path:
    """The shared photographs: VICE_DATA, or `../shared/data` beside the project."""
    return Path(os.environ.get("VICE_DATA", PROJECT.parent / "shared" / "data"))


def make_importable() -> None:
    """Put the project's folders under the name `vice`, where they are not installed; for child processes as well."""
    try:
        import vice.pipeline.shards  # noqa: F401
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("vice"):
            return
        folder = Path(tempfile.mkdtemp(prefix="vice-names-"))
        (folder / "vice").mkdir()
        for package in ("data_specs", "pipeline", "train", "evaluate"):
            (folder / "vice" / package).symlink_to(PROJECT / package)
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        sys.modules.pop("vice", None)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "–"
    return found


def machine() -> dict[str, object]:
    """The GPU (None where there is none), the processor, and the cores that this process may use."""
    try:
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    except ModuleNotFoundError:
        gpu = None
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"gpu": gpu, "processor": processor, "cores": len(os.sched_getaffinity(0))}

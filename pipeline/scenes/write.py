"""Write a set of scenes as a dataset that `--dataset scenes` reads: pictures and label maps of two splits."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import track

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.fingerprint import difference
from vice.pipeline.scenes.scene import make_scene

GENERATOR_VERSION = 1
"""Raised with every change that changes a byte of any scene."""

JPEG_QUALITY = 95

RECORD_FILE = "scenes.json"


def write_scenes(folder: Path, *, num_train: int = 100, num_val: int = 30, seed: int = 0) -> None:
    """Write `FOLDER/{train,val}/images/NAME.jpg` (320×240), `.../labels/NAME.png` (classes) and a record.

    The folder appears whole or not at all. Where it already holds the same scenes, nothing is done.

    Args:
        folder: new, or empty, or written by this function with the same settings.
        num_train: number of training scenes.
        num_val: number of validation scenes.
        seed: of the whole set; every seed gives other scenes.

    Raises:
        InputError: a number is out of range, or the folder holds other things or scenes of other settings.
        WorkError: the folder cannot be written.
    """
    folder = Path(folder)
    record = {"generator_version": GENERATOR_VERSION, "num_train": num_train, "num_val": num_val, "seed": seed}
    if min(num_train, num_val, seed) < 0 or seed >= 1 << 64:
        raise InputError("counts and seed of scenes are whole numbers from 0", where=folder, hint="give other numbers")
    if _is_written(folder, record):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write_all(aside, record)
            aside.chmod(0o755)
            aside.replace(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise WorkError(f"cannot write scenes ({error.strerror})", where=folder, hint="choose another folder") from None


def _is_written(folder: Path, record: dict[str, int]) -> bool:
    """Whether the folder holds exactly these scenes; refuses one that holds anything else."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise InputError("is a file, not a folder", where=folder, hint="give a new folder")
    if not any(folder.iterdir()):
        return False
    try:
        found = json.loads((folder / RECORD_FILE).read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise InputError("folder holds other things than scenes", where=folder, hint="give a new or empty folder")
    if found != record:
        changes = "; ".join(difference(found, record))
        raise InputError(
            f"folder holds scenes of other settings ({changes})", where=folder, hint="give a new folder or remove it"
        )
    return True


def _write_all(folder: Path, record: dict[str, int]) -> None:
    """Write both splits, then the record, into an empty folder."""
    jobs = [(split, number) for split in ("train", "val") for number in range(record[f"num_{split}"])]
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
    console = Console(stderr=True)
    for split, number in track(jobs, "scenes", console=console, disable=not console.is_terminal):
        scene = make_scene(record["seed"], split, number)
        name = f"{split}-{number:05d}"
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        _write(
            folder / split / "images" / f"{name}.jpg",
            cv2.imencode(".jpg", scene.picture[..., ::-1], quality)[1].tobytes(),
        )
        _write(folder / split / "labels" / f"{name}.png", cv2.imencode(".png", scene.labels)[1].tobytes())
    _write(folder / RECORD_FILE, (json.dumps(record, sort_keys=True, indent=2) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    """Write and flush to the disk, so that a rename never reveals a file without its bytes."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

"""Segmentations by hand: files `NAME_K.png`, K the annotator, NAME the picture's file without its suffix."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Integer

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint


class Segmentations:
    """A folder of segmentations.

    Raises:
        InputError: no such folder, or none in it.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._files: dict[str, list[Path]] = {}
        if not folder.is_dir():
            raise InputError("no such folder", where=folder, hint="give the folder of NAME_K.png files")
        for path in sorted(folder.glob("*_*.png")):
            self._files.setdefault(path.stem.rpartition("_")[0], []).append(path)
        if not self._files:
            raise InputError("no segmentation NAME_K.png in it", where=folder)

    @property
    def digest(self) -> str:
        """Names the files by their names and sizes: 12 digits."""
        files = [(path.name, path.stat().st_size) for paths in self._files.values() for path in paths]
        return fingerprint(sorted(files))[:12]

    def of(self, source: str, shape: tuple[int, int]) -> list[Integer[np.ndarray, "h w"]]:
        """The segmentations of the picture that came from a source file.

        Raises:
            InputError: there is none, one cannot be read, or one has another size than the picture.
        """
        files = self._files.get(Path(source).stem)
        if files is None:
            raise InputError(f"no segmentation of {source}", where=self._folder, hint="it is named NAME_K.png")
        return [self._read(path, shape) for path in files]

    def _read(self, path: Path, shape: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if found is None or found.ndim != 2:
            raise InputError("not readable as a map of ids", where=path, hint="a grey PNG of 8 or 16 bits")
        if found.shape != shape:
            size = f"{found.shape[1]} × {found.shape[0]}, its picture {shape[1]} × {shape[0]}"
            raise InputError(f"has the size {size}", where=path, hint="shard the pictures at their own size")
        return found

"""Nearest regions: pictures whose regions can be chosen, and a pool of regions of other pictures to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import faiss
import numpy as np
from jaxtyping import Float32

from vice.data_specs.atlas_entry import LookupPicture
from vice.evaluate.atlas.cut_outs import save_jpeg
from vice.evaluate.atlas.region_embeddings import Regions
from vice.evaluate.counters import raw_draws
from vice.evaluate.pictures import save_png
from vice.pipeline.shards import Shards

POOL_SIZE = 1500
"""Most regions of the pool."""
NUM_NEAREST = 8
MAX_SIDE = 640
"""Of a picture whose regions can be chosen, in pixels."""


class Pooled(NamedTuple):
    """A region of the pool."""

    number: int
    """Of its picture."""
    region: int
    label: str | None


class Pool:
    """Regions drawn evenly over all pictures but those whose regions can be chosen.

    Args:
        num_pictures: that are drawn from.
        seed: of the draw.
        classes: names, for the regions' labels; empty without labels.
    """

    def __init__(self, num_pictures: int, *, seed: int, classes: list[str]):
        self._of_each = -(-POOL_SIZE // max(num_pictures, 1))
        self._seed, self._classes = seed, classes
        self.entries: list[Pooled] = []
        self._embeddings: list[np.ndarray] = []

    def add(self, regions: Regions) -> None:
        """Draw some regions of a picture."""
        room = POOL_SIZE - len(self.entries)
        draws = raw_draws(self._seed, "pool", regions.number, len(regions.embeddings))
        drawn = np.sort(np.argsort(draws, kind="stable")[: min(self._of_each, room)])
        for region in drawn.tolist():
            self.entries.append(Pooled(regions.number, region, self._label(regions, region)))
        self._embeddings.append(regions.embeddings[drawn])

    def _label(self, regions: Regions, region: int) -> str | None:
        counts = None if regions.class_counts is None else regions.class_counts[region]
        return self._classes[int(counts.argmax())] if counts is not None and counts.any() else None

    def nearest(self, embeddings: Float32[np.ndarray, "r d"]) -> tuple[np.ndarray, np.ndarray]:
        """Cosines [r, 8] and places in the pool [r, 8] of the regions most alike."""
        known = np.concatenate(self._embeddings)
        index = faiss.IndexFlatIP(known.shape[1])
        index.add(known)
        return index.search(embeddings, min(NUM_NEAREST, len(known)))


def lookup_picture(shards: Shards, regions: Regions, pool: Pool, run_dir: Path, folder: str) -> LookupPicture:
    """Write a picture and its region map, and find each region's nearest ones."""
    key = shards.keys[regions.number]
    picture = shards.sample(regions.number, layers=[]).picture
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    save_jpeg(run_dir / folder / f"{key}.jpg", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    ids = cv2.resize(regions.map, size, interpolation=cv2.INTER_NEAREST)
    coded = np.stack([ids & 255, ids >> 8, np.zeros_like(ids)], axis=-1).astype(np.uint8)
    save_png(run_dir / folder / f"{key}-regions.png", coded, max_side=max(size), blend=False)
    cosines, places = pool.nearest(regions.embeddings)
    return LookupPicture(
        key=key,
        picture=f"{folder}/{key}.jpg",
        regions=f"{folder}/{key}-regions.png",
        nearest=places.tolist(),
        similarity=np.round(cosines, 4).tolist(),
    )

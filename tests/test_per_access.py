"""The yardstick of the loader's benchmark makes what it claims to make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_views_regions_and_masks_fit_together(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from per_access import OUTSIDE, STAGES, PerAccessViews, collate

    coarse = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((200, 150)).save(tmp_path / "one.jpg")
    torch.manual_seed(0)
    batch = collate([PerAccessViews([tmp_path / "one.jpg"], num_views=3, size=96)[0] for _ in range(2)])

    assert [tuple(view.shape) for view in batch.images] == [(2, 3, 96, 96)] * 3
    assert all(set(seconds) == set(STAGES) for seconds in batch.seconds)
    for picture in range(2):
        mutual = set(batch.regions[0][picture])
        for ids, regions in zip(batch.maps, batch.regions, strict=True):
            ids, regions = ids[picture].flatten(), regions[picture]
            assert set(regions) == mutual
            assert set(ids.unique().tolist()) - {OUTSIDE} <= mutual
            assert all((ids[torch.from_numpy(place)] == region).all() for region, place in regions.items())
            assert sum(len(place) for place in regions.values()) == int((ids != OUTSIDE).sum())

"""FAISS on a GPU gives what it gives on the CPU."""

import faiss
import numpy as np
import pytest

from vice.evaluate.evaluators import kmeans, neighbors
from vice.evaluate.evaluators.kmeans import fit_clusters, on_gpu
from vice.evaluate.evaluators.neighbors import NeighborHead
from vice.evaluate.evaluators.patches import Memory
from vice.evaluate.options import KMeansSettings, NeighborSettings

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def faiss_sees_a_gpu():
    if not on_gpu():
        pytest.skip("this FAISS sees no GPU")


def noise(*shape: int, key: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)


def test_clusters_are_as_tight(monkeypatch):
    points = noise(20_000, 32, key=1) + 4 * noise(10, 32, key=2)[np.arange(20_000) % 10]
    settings = KMeansSettings(iterations=20, restarts=3)
    there = fit_clusters(points, 10, settings=settings)
    monkeypatch.setattr(kmeans, "on_gpu", lambda: False)
    assert there.objective == pytest.approx(fit_clusters(points, 10, settings=settings).objective, rel=1e-3)


@pytest.mark.parametrize("index", ["flat", "ivf"])
def test_votes_are_the_same(monkeypatch, index):
    memory = Memory(noise(5000, 32, key=3), np.abs(noise(5000, 6, key=4)))
    queries, settings = noise(32, 20, 20, key=5), NeighborSettings(index=index)
    there = NeighborHead(memory, settings, cells_a_side=1).scores(queries)
    monkeypatch.setattr(neighbors, "on_gpu", lambda: False)
    here = NeighborHead(memory, settings, cells_a_side=1).scores(queries)
    # inverted lists are trained anew: a few queries meet other lists
    assert (abs(there - here).max(axis=0) < 1e-3).mean() > (0.999 if index == "flat" else 0.9)
    assert faiss.get_num_gpus() > 0

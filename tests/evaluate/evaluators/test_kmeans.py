import faiss
import numpy as np
import pytest

from vice.data_specs.errors import InputError
from vice.evaluate.evaluators.kmeans import fit_clusters
from vice.evaluate.options import KMeansSettings


def vectors(count: int = 3000, depth: int = 16) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=9)).standard_normal((count, depth), np.float32)


@pytest.mark.parametrize("spherical", [False, True])
def test_repeating_gives_equal_bits_whatever_faiss_was_told_before(spherical):
    points, settings = (
        vectors(),
        KMeansSettings(iterations=10, restarts=2, points_per_centroid=200, spherical=spherical),
    )
    first = fit_clusters(points, 12, settings=settings)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        second = fit_clusters(points, 12, settings=settings)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(threads)
    np.testing.assert_array_equal(first.head.weight, second.head.weight)
    np.testing.assert_array_equal(first.head.bias, second.head.bias)
    assert first.objective == second.objective


def test_another_seed_gives_other_clusters():
    first, second = (fit_clusters(vectors(), 12, settings=KMeansSettings(restarts=1), seed=seed) for seed in (0, 1))
    assert (first.head.weight != second.head.weight).any()


def test_separate_groups_are_found():
    draws = np.random.Generator(np.random.Philox(key=4))
    groups = np.repeat(np.arange(5), 100)
    points = (draws.standard_normal((5, 8)) * 10)[groups] + draws.standard_normal((500, 8)) * 0.1
    clusters = fit_clusters(points.astype(np.float32), 5)
    assigned = clusters.head.assign(points.astype(np.float32))
    assert len({(int(group), int(cluster)) for group, cluster in zip(groups, assigned, strict=True)}) == 5


def test_the_objective_is_the_mean_squared_distance_of_the_points():
    points = vectors(500)
    clusters = fit_clusters(points, 8, settings=KMeansSettings(iterations=100, restarts=1))
    assigned = clusters.head.assign(points)
    distance = np.square(points - clusters.centroids[assigned]).sum(axis=1).mean()
    assert clusters.num_points == 500
    assert clusters.objective == pytest.approx(distance, rel=1e-3)


def test_spherical_clusters_do_not_see_length():
    points = vectors(400)
    clusters = fit_clusters(points, 6, settings=KMeansSettings(spherical=True))
    np.testing.assert_allclose(np.linalg.norm(clusters.centroids, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(clusters.head.assign(points), clusters.head.assign(points * np.float32(4)))


def test_subsampling_is_counted():
    assert fit_clusters(vectors(), 4, settings=KMeansSettings(points_per_centroid=50)).num_points == 200


def test_more_clusters_than_vectors_are_refused_in_one_line():
    with pytest.raises(InputError, match="10 clusters asked of 9 vectors") as caught:
        fit_clusters(vectors(9), 10)
    assert "--k" in caught.value.line()


def test_a_large_common_offset_spoils_neither_clusters_nor_assignments():
    """In float32 |c|² leaves no digits for the distances: 61 % of assignments were wrong."""
    near, far = vectors(), vectors() + np.float32(1000)
    clusters = fit_clusters(far, 12)
    assert clusters.objective == pytest.approx(fit_clusters(near, 12).objective, rel=0.01)
    distances = np.square(far[:, None].astype(np.float64) - clusters.centroids).sum(axis=2)
    assert (clusters.head.assign(far) == distances.argmin(axis=1)).mean() > 0.999

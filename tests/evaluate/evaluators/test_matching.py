from itertools import permutations

import numpy as np
import pytest

from vice.evaluate.evaluators.matching import as_classes, greedy, hungarian
from vice.evaluate.metrics import score


def right(counts: np.ndarray, classes: np.ndarray) -> int:
    return int(counts[classes, np.arange(counts.shape[1])].sum())


def test_greedy_takes_the_majority_and_the_most_frequent_class_for_an_empty_cluster():
    counts = np.array([[5, 1, 0, 2], [4, 3, 0, 2], [0, 2, 0, 9]])
    np.testing.assert_array_equal(greedy(counts), [0, 1, 2, 2])


def test_hungarian_gives_every_class_a_cluster_where_greedy_gives_one_class_all():
    counts = np.array([[9, 8, 7], [1, 2, 6], [0, 5, 1]])
    np.testing.assert_array_equal(greedy(counts), [0, 0, 0])
    np.testing.assert_array_equal(hungarian(counts), [0, 2, 1])


def test_hungarian_sends_leftover_clusters_to_their_majority():
    counts = np.array([[9, 8, 1], [0, 1, 5]])
    np.testing.assert_array_equal(hungarian(counts), [0, 0, 1])


def test_hungarian_with_fewer_clusters_than_classes_leaves_classes_out():
    counts = np.array([[9, 1], [3, 1], [0, 4]])
    np.testing.assert_array_equal(hungarian(counts), [0, 2])


def test_hungarian_gives_a_cluster_to_a_class_that_does_not_occur_as_published_code_does():
    """The least frequent one; its pixels are wrong, and the class lowers the mean."""
    counts = np.array([[9, 3, 1], [0, 0, 0], [1, 8, 2]])
    np.testing.assert_array_equal(hungarian(counts), [0, 2, 1])
    found = score(as_classes(counts, hungarian(counts)), ["a", "absent", "b"])
    assert found.iou == {"a": 9 / 14, "absent": 0, "b": 8 / 14}
    assert found.miou == pytest.approx((9 / 14 + 8 / 14) / 3)


@pytest.mark.parametrize(("num_classes", "num_clusters"), [(4, 4), (3, 5), (5, 3)])
def test_hungarian_is_the_best_of_all_one_to_one_matchings(num_classes, num_clusters):
    draws = np.random.Generator(np.random.Philox(key=[num_classes, num_clusters]))
    for _ in range(20):
        counts = draws.integers(1, 50, (num_classes, num_clusters))
        few, many = sorted((num_classes, num_clusters))
        by_few = counts if num_classes <= num_clusters else counts.T
        best = max(sum(by_few[i, j] for i, j in enumerate(order)) for order in permutations(range(many), few))
        classes = hungarian(counts)
        if num_clusters <= num_classes:
            assert len(set(classes.tolist())) == num_clusters
            assert right(counts, classes) == best
        else:
            # leftover clusters can only add to what the matched ones get right
            assert set(classes.tolist()) == set(range(num_classes))
            assert right(counts, classes) >= best
            assert right(counts, classes) <= right(counts, greedy(counts))


def test_confusion_sums_the_clusters_of_a_class():
    counts = np.array([[5, 1, 0, 2], [4, 3, 0, 2], [0, 2, 0, 9]])
    confusion = as_classes(counts, np.array([0, 1, 2, 2]))
    np.testing.assert_array_equal(confusion, [[5, 1, 2], [4, 3, 2], [0, 2, 9]])
    assert confusion.sum() == counts.sum()

import numpy as np
import pytest
import sklearn.metrics

from vice.data_specs.regions import IGNORE
from vice.evaluate.metrics import count_pairs, over_seeds, score


def test_scores_of_a_hand_computed_confusion():
    # labelled a: 3 right, 1 called b; labelled b: 2 right, 2 called a
    result = score(np.array([[3, 1], [2, 2]]), ["a", "b"])
    assert result.iou == {"a": 3 / 6, "b": 2 / 5}
    assert result.miou == pytest.approx((3 / 6 + 2 / 5) / 2, abs=1e-15)
    assert result.accuracy == 5 / 8
    assert result.mean_accuracy == pytest.approx((3 / 4 + 2 / 4) / 2, abs=1e-15)
    assert result.confusion == [[3, 1], [2, 2]]


def test_a_class_that_occurs_nowhere_is_left_out_of_the_means():
    result = score(np.array([[4, 0, 0], [0, 4, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert (result.miou, result.mean_accuracy, result.iou["c"]) == (1.0, 1.0, None)


def test_a_class_that_is_only_predicted_counts_against_miou_but_not_against_mean_accuracy():
    result = score(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert result.iou == {"a": 0.75, "b": 0.0}
    assert (result.miou, result.mean_accuracy) == (0.375, 0.75)


def test_nothing_labelled_gives_zeros_and_no_class():
    result = score(np.zeros((2, 2), np.int64), ["a", "b"])
    assert (result.miou, result.accuracy, result.mean_accuracy) == (0, 0, 0)
    assert result.iou == {"a": None, "b": None}


def test_ignored_pixels_count_nowhere():
    labels = np.array([[0, 1, IGNORE], [IGNORE, 1, 0]], np.uint16)
    predictions = np.array([[0, 0, 5], [7, 1, 0]])
    np.testing.assert_array_equal(
        count_pairs(labels, predictions, num_labels=2, num_predictions=8)[:, :2], [[2, 0], [1, 1]]
    )
    assert count_pairs(labels, predictions, num_labels=2, num_predictions=8).sum() == 4


def test_counts_equal_a_loop():
    draws = np.random.Generator(np.random.Philox(key=1))
    labels, predictions = draws.integers(0, 4, (9, 7)), draws.integers(0, 6, (9, 7))
    labels[draws.random((9, 7)) < 0.3] = IGNORE
    expected = np.zeros((4, 6), np.int64)
    for label, prediction in zip(labels.flat, predictions.flat, strict=True):
        if label != IGNORE:
            expected[label, prediction] += 1
    np.testing.assert_array_equal(count_pairs(labels, predictions, num_labels=4, num_predictions=6), expected)


@pytest.mark.parametrize(("labels", "predictions"), [([2], [0]), ([0], [3]), ([0], [-1])])
def test_values_out_of_range_are_refused(labels, predictions):
    with pytest.raises(ValueError, match="outside"):
        count_pairs(np.array(labels), np.array(predictions), num_labels=2, num_predictions=3)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="shape"):
        count_pairs(np.zeros((2, 3), int), np.zeros((3, 2), int), num_labels=1, num_predictions=1)


def test_metrics_are_scikit_learn_s():
    draws = np.random.Generator(np.random.Philox(key=12))
    labels, predictions = draws.integers(0, 6, (2, 5000))
    predictions = np.where(draws.random(5000) < 0.5, labels, predictions)
    confusion = count_pairs(labels, predictions, num_labels=6, num_predictions=6)
    found = score(confusion, list("abcdef"))
    np.testing.assert_array_equal(confusion, sklearn.metrics.confusion_matrix(labels, predictions))
    assert found.miou == pytest.approx(sklearn.metrics.jaccard_score(labels, predictions, average="macro"))
    assert found.accuracy == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    assert found.mean_accuracy == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, predictions))
    by_class = sklearn.metrics.jaccard_score(labels, predictions, average=None)
    np.testing.assert_allclose(list(found.iou.values()), by_class)


def test_a_class_that_one_seed_never_met_counts_for_the_others():
    first = score(np.array([[4, 0], [0, 0]]), ["a", "b"])
    second = score(np.array([[2, 2], [0, 4]]), ["a", "b"])
    both = over_seeds({3: first, 7: second})
    assert both.iou == {"a": pytest.approx((1 + 0.5) / 2), "b": pytest.approx(4 / 6)}
    assert both.miou == pytest.approx((first.miou + second.miou) / 2)
    assert both.confusion == [[6, 2], [0, 4]]
    assert [(repeat.seed, repeat.miou) for repeat in both.repeats] == [(3, first.miou), (7, second.miou)]
    assert over_seeds({3: first}) == first

"""Segmentation metrics from a confusion matrix, in NumPy alone: mIoU, accuracy, mean accuracy, IoU per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int64, Integer

from vice.data_specs.entries import Repeat, Score
from vice.data_specs.regions import IGNORE


def count_pairs(
    labels: Integer[np.ndarray, " ..."],
    predictions: Integer[np.ndarray, " ..."],
    *,
    num_labels: int,
    num_predictions: int,
) -> Int64[np.ndarray, "num_labels num_predictions"]:
    """Count pixels by (label, prediction); pixels labelled IGNORE count nowhere.

    Args:
        labels: values 0..num_labels-1 or IGNORE.
        predictions: values 0..num_predictions-1, same shape.
        num_labels: number of classes.
        num_predictions: number of classes or clusters that can be predicted.

    Raises:
        ValueError: shapes differ, or a value is out of range.
    """
    if labels.shape != predictions.shape:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} differ in shape")
    labelled = labels != IGNORE
    rows, columns = labels[labelled].astype(np.int64), predictions[labelled].astype(np.int64)
    for values, num_values in ((rows, num_labels), (columns, num_predictions)):
        if values.size and not 0 <= values.min() <= values.max() < num_values:
            raise ValueError(f"a value is outside 0..{num_values - 1}")
    counts = np.bincount(rows * num_predictions + columns, minlength=num_labels * num_predictions)
    return counts.reshape(num_labels, num_predictions)


def score(confusion: Int64[np.ndarray, "c c"], classes: Sequence[str]) -> Score:
    """The metrics of a confusion matrix (rows: labelled class, columns: predicted class).

    mIoU and mean accuracy are means over the classes that occur: for mIoU in labels or predictions, for mean accuracy
    in labels. With nothing labelled all shares are 0.
    """
    right = np.diag(confusion).astype(np.float64)
    labelled, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    union = labelled + predicted - np.diag(confusion)
    iou = _shares(right, union)
    return Score(
        miou=_mean_where(iou, union > 0),
        accuracy=float(right.sum() / max(confusion.sum(), 1)),
        mean_accuracy=_mean_where(_shares(right, labelled), labelled > 0),
        iou=dict(zip(classes, np.where(union > 0, iou, None).tolist(), strict=True)),
        confusion=confusion.tolist(),
    )


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of every share (of a class: over those where it occurs), and the summed confusion."""

    def mean(values: Sequence[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return sum(there) / len(there) if there else None

    return Score(
        miou=mean([score.miou for score in scores]),
        accuracy=mean([score.accuracy for score in scores]),
        mean_accuracy=mean([score.mean_accuracy for score in scores]),
        iou={name: mean([score.iou[name] for score in scores]) for name in scores[0].iou},
        confusion=np.sum([score.confusion for score in scores], axis=0).tolist(),
    )


def over_seeds(scores: Mapping[int, Score]) -> Score:
    """One score of several seeds: their mean, with every seed's shares beside it; that of a single seed as it is."""
    if len(scores) == 1:
        return next(iter(scores.values()))
    repeats = [
        Repeat(seed=seed, miou=score.miou, accuracy=score.accuracy, mean_accuracy=score.mean_accuracy)
        for seed, score in scores.items()
    ]
    return mean_score(list(scores.values())).model_copy(update={"repeats": repeats})


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)


def _mean_where(values: np.ndarray, which: Bool[np.ndarray, " c"]) -> float:
    return float(values[which].mean()) if which.any() else 0.0

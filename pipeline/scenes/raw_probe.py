"""How much colour and place alone tell: softmax regression on r, g, b, x, y of every pixel.

Beside the flow: a measure of how hard a set of labelled pictures is for what has no features. `benchmarks/raw_probe.py`
applies it to scenes and to CamVid.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.optimize import minimize

RIDGE = 1e-6
"""Weight of the squared parameters beside the mean negative log-likelihood."""


def raw_features(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int, *, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take every `step`-th pixel across and down.

    Args:
        pairs: pictures uint8 [h, w, 3] and labels [h, w]; pixels with a label from `num_classes` up are left out.
        num_classes: number of classes.
        step: pixels.

    Returns:
        float64 [n, 5]: r, g, b and x, y about 0, each spanning 1; and classes int64 [n].
    """
    features, classes = [], []
    for picture, labels in pairs:
        height, width = labels.shape
        y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
        place = np.stack([x / width - 0.5, y / height - 0.5], axis=-1)
        kept = labels[y, x] < num_classes
        features.append(np.concatenate([picture[y, x] / 255 - 0.5, place], axis=-1)[kept])
        classes.append(labels[y, x][kept].astype(np.int64))
    return np.concatenate(features), np.concatenate(classes)


def fit_softmax(features: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Fit multinomial logistic regression by L-BFGS.

    Args:
        features: float [n, d].
        classes: int [n].
        num_classes: number of classes C.

    Returns:
        float64 [C, d + 1]: weights, the bias last.
    """
    inputs = np.c_[features, np.ones(len(features))]
    truth = np.eye(num_classes)[classes]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        scores = inputs @ flat.reshape(num_classes, -1).T
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        total = shares.sum(axis=1, keepdims=True)
        value = ((np.log(total) - scores) * truth).sum() / len(inputs) + RIDGE * (flat @ flat)
        slope = (shares / total - truth).T @ inputs / len(inputs)
        return value, slope.ravel() + 2 * RIDGE * flat

    start = np.zeros(num_classes * inputs.shape[1])
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x.reshape(num_classes, -1)


def class_ious(weights: np.ndarray, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Intersection over union of every class, float64 [C]; NaN for a class neither present nor predicted.

    Args:
        weights: [C, d + 1], of `fit_softmax`.
        features: float [n, d].
        classes: int [n].
    """
    num_classes = len(weights)
    predicted = (np.c_[features, np.ones(len(features))] @ weights.T).argmax(axis=1)
    counts = np.bincount(classes * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
    hit = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - hit
    return np.where(union > 0, hit / np.maximum(union, 1), np.nan)

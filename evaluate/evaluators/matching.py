"""Clusters to classes: by majority (greedy), or one to one first (Hungarian), from counts of (class, cluster)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int64
from scipy.optimize import linear_sum_assignment


def greedy(counts: Int64[np.ndarray, "c k"]) -> Int64[np.ndarray, " k"]:
    """Give each cluster the class that most of its labelled pixels have (the first of equals).

    A cluster without labelled pixels gets the most frequent class of all.

    Args:
        counts: labelled pixels by class (rows) and cluster (columns).
    """
    classes = counts.argmax(axis=0)
    classes[counts.sum(axis=0) == 0] = counts.sum(axis=1).argmax()
    return classes


def hungarian(counts: Int64[np.ndarray, "c k"]) -> Int64[np.ndarray, " k"]:
    """Match all classes and clusters one to one so that most pixels are right; clusters left over go by majority.

    As in the published code of PiCIE and STEGO, which match on the val labels: classes that do not occur in `counts`
    take part, too. With K equal to the number of classes they get the clusters that cost least; what such a cluster
    holds is predicted wrong, and the class counts with an IoU of 0. (A class that neither occurs nor is predicted is
    left out of the mean, there as here.) With K below the number of classes, K of them get a cluster. With K above it,
    STEGO counts the pixels of clusters left over as wrong; PiCIE has none.

    Args:
        counts: labelled pixels by class (rows) and cluster (columns).
    """
    classes = greedy(counts)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    classes[columns] = rows
    return classes


RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"greedy": greedy, "hungarian": hungarian}
"""Matching rules by the name that results carry."""


def as_classes(counts: Int64[np.ndarray, "c k"], classes: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, "c c"]:
    """The confusion matrix (rows: labelled class, columns: predicted) once clusters stand for classes."""
    confusion = np.zeros((len(counts), len(counts)), np.int64)
    np.add.at(confusion.T, classes, counts.T)
    return confusion

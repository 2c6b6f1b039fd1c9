"""Accuracy and F1, from labels or from stacks of confusion matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Class index of an answer in which no choice could be read.
UNPARSABLE = -1


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of right answers; NaN when there are none to judge.

    Examples:
        >>> accuracy([0, 1, 2, 2], [0, 1, 2, UNPARSABLE])
        0.75
    """
    right = np.asarray(truth) == np.asarray(predicted)
    return float(right.mean()) if right.size else float("nan")


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Count answers by true and predicted class.

    Args:
        truth: class indices in 0…n_classes-1.
        predicted: class indices, or `UNPARSABLE`.
        n_classes: number of classes K.

    Returns:
        Counts of shape ``(K, K + 1)``; the last column counts unparsable answers.
    """
    together = np.zeros(np.shape(truth), dtype=np.int64)
    return grouped_confusion(truth, predicted, n_classes, together, 1).reshape(n_classes, n_classes + 1)


def grouped_confusion(
    truth: ArrayLike, predicted: ArrayLike, n_classes: int, groups: ArrayLike, n_groups: int
) -> NDArray[np.int64]:
    """`confusion_matrix` of each group of items, of shape ``(n_groups, K, K + 1)``; ``groups`` are indices."""
    columns = np.asarray(predicted, dtype=np.int64)
    columns = np.where(columns == UNPARSABLE, n_classes, columns)
    rows = np.asarray(groups, dtype=np.int64) * n_classes + np.asarray(truth, dtype=np.int64)
    counts = np.bincount(rows * (n_classes + 1) + columns, minlength=n_groups * n_classes * (n_classes + 1))
    return counts.reshape(n_groups, n_classes, n_classes + 1)


def macro_f1(confusion: ArrayLike) -> NDArray[np.float64]:
    """Mean F1 over the classes that occur, in truth or in predictions.

    A class that occurs in neither has no F1 and is left out, as in scikit-learn. An unparsable answer is a miss for
    its true class and a false alarm for none.

    Args:
        confusion: counts (or weights) of shape ``(..., K, K + 1)`` from `confusion_matrix`.

    Returns:
        Macro F1 of shape ``(...)``; NaN where nothing was counted.

    Examples:
        >>> float(macro_f1([[2, 0, 0], [1, 1, 0]]).round(4))
        0.7333
    """
    f1, present, _ = _f1_by_class(confusion)
    n_present = present.sum(axis=-1)
    return np.where(n_present > 0, f1.sum(axis=-1) / np.maximum(n_present, 1), np.nan)


def weighted_f1(confusion: ArrayLike) -> NDArray[np.float64]:
    """Mean F1 over the classes, each weighted by how often it is the truth.

    An unparsable answer counts as in `macro_f1`.

    Args:
        confusion: counts (or weights) of shape ``(..., K, K + 1)`` from `confusion_matrix`.

    Returns:
        Weighted F1 of shape ``(...)``; NaN where nothing was counted.

    Examples:
        >>> float(weighted_f1([[2, 0, 0], [1, 1, 0]]).round(4))
        0.7333
        >>> float(weighted_f1([[3, 0, 0], [1, 0, 0]]).round(4))
        0.6429
    """
    f1, _, true = _f1_by_class(confusion)
    total = true.sum(axis=-1)
    return np.where(total > 0, (f1 * true).sum(axis=-1) / np.where(total > 0, total, 1), np.nan)


def _f1_by_class(
    confusion: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """F1 of each class (0 where it has none), whether the class occurs, and how often it is the truth."""
    counts = np.asarray(confusion, dtype=float)
    hits = np.diagonal(counts[..., :-1], axis1=-2, axis2=-1)
    true = counts.sum(axis=-1)
    occurrences = true + counts[..., :-1].sum(axis=-2)
    present = occurrences > 0
    return 2 * hits / np.where(present, occurrences, 1), present, true

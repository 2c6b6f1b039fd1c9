"""Scores of an order: what is found first, and how well probabilities tell classes apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from temmed.errors import InputError

Floats = NDArray[np.float64]


def first_relevant_ranks(similarities: ArrayLike, relevant: ArrayLike) -> Floats:
    """Rank of the best relevant candidate of each query, from 1.

    Only the order of similarities counts, so they may be negative. Ties are taken pessimistically: irrelevant
    candidates that are as similar as a relevant one come before it, so that a constant similarity finds nothing early.

    Args:
        similarities: of shape ``(Q, N)``; −∞ for a candidate that a query must not find.
        relevant: whether a candidate is a right one, of shape ``(Q, N)``.

    Returns:
        Ranks of shape ``(Q,)``; NaN for a query without a relevant candidate.

    Raises:
        InputError: the shapes differ, or a similarity is NaN.

    Examples:
        >>> first_relevant_ranks([[-0.1, -0.5, -0.5]], [[False, True, False]]).tolist()
        [3.0]
    """
    values, right = np.asarray(similarities, dtype=float), np.asarray(relevant, dtype=bool)
    if values.ndim != 2 or values.shape != right.shape:
        found = f"{values.shape} and {right.shape}"
        raise InputError("two tables (queries, candidates)", found, "similarities", "Give one mark per similarity.")
    if np.isnan(values).any():
        found = f"{int(np.isnan(values).sum())} NaN"
        raise InputError("a similarity of every pair", found, "similarities", "Give −inf to what must not be found.")
    best = np.where(right, values, -np.inf).max(axis=1, initial=-np.inf)
    ranks = 1.0 + ((values >= best[:, None]) & ~right).sum(axis=1)
    return np.where(right.any(axis=1), ranks, np.nan)


def recall_at_k(ranks: ArrayLike, k: int) -> float:
    """Share of queries that have a relevant candidate among the first k.

    Args:
        ranks: from `first_relevant_ranks`, of shape ``(Q,)``; queries with NaN are left out.
        k: how many candidates are looked at.

    Returns:
        Between 0 and 1; NaN without queries.

    Examples:
        >>> recall_at_k([1, 3, 6], k=5)
        0.6666666666666666
    """
    known = _known(ranks)
    return float((known <= k).mean()) if known.size else float("nan")


def mean_reciprocal_rank(ranks: ArrayLike) -> float:
    """Mean of 1 ÷ rank.

    Args:
        ranks: from `first_relevant_ranks`, of shape ``(Q,)``; queries with NaN are left out.

    Returns:
        Between 0 and 1; NaN without queries.

    Examples:
        >>> mean_reciprocal_rank([1, 2, 4])
        0.5833333333333334
    """
    known = _known(ranks)
    return float((1 / known).mean()) if known.size else float("nan")


def macro_auroc(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Area under the ROC curve of each class against the rest, mean over the classes.

    Args:
        probabilities: of shape ``(n, K)``; any score that grows with the probability does.
        truth: class indices, of shape ``(n,)``.

    Returns:
        Mean over the classes that are true of some items and not of all; NaN without such a class.
    """
    from sklearn.metrics import roc_auc_score

    values, classes = _told_apart(probabilities, truth)
    found = [roc_auc_score(np.asarray(truth) == place, values[:, place]) for place in classes]
    return float(np.mean(found)) if found else float("nan")


def macro_auprc(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Average precision of each class against the rest, mean over the classes.

    Args:
        probabilities: of shape ``(n, K)``; any score that grows with the probability does.
        truth: class indices, of shape ``(n,)``.

    Returns:
        Mean over the classes that are true of some items and not of all; NaN without such a class. A constant score has
        the mean share of these classes.
    """
    from sklearn.metrics import average_precision_score

    values, classes = _told_apart(probabilities, truth)
    found = [average_precision_score(np.asarray(truth) == place, values[:, place]) for place in classes]
    return float(np.mean(found)) if found else float("nan")


def _told_apart(probabilities: ArrayLike, truth: ArrayLike) -> tuple[Floats, list[int]]:
    values, true = np.asarray(probabilities, dtype=float), np.asarray(truth)
    counts = np.bincount(true, minlength=values.shape[1])
    return values, [place for place, count in enumerate(counts) if 0 < count < len(true)]


def _known(ranks: ArrayLike) -> Floats:
    values = np.asarray(ranks, dtype=float)
    return values[~np.isnan(values)]

"""Sets of choices that hold the right one with a stated probability: split conformal prediction.

Probabilities have the form described in `temmed.metrics.functional.calibration`: ``(n, K)``, NaN behind the choices of
a question. A score says how badly a choice fits; the set of a question holds the choices whose score is no higher than
a threshold, which is fitted on the scores of the right choices of other patients.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from temmed.errors import InputError

Floats = NDArray[np.float64]

#: Probabilities that are summed in another order may differ in their last bits.
_ROUNDING = 1e-9


def lac_scores(probabilities: ArrayLike) -> Floats:
    """One minus the probability of each choice: the smallest sets on average.

    Source: Sadinle, Lei & Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA 2019.

    Args:
        probabilities: of shape ``(n, K)``.

    Returns:
        Of the same shape, with the same NaN.
    """
    return 1 - np.asarray(probabilities, dtype=float)


def aps_scores(probabilities: ArrayLike) -> Floats:
    """Summed probability of all choices that are at least as probable: sets that grow with the question's difficulty.

    Source: Romano, Sesia & Candès, "Classification with valid and adaptive coverage", NeurIPS 2020; without their
    random part, so that equal predictions have equal sets. These are then somewhat larger than they need be.

    Args:
        probabilities: of shape ``(n, K)``.

    Returns:
        Of the same shape, with the same NaN; equally probable choices have the same score.
    """
    values = np.asarray(probabilities, dtype=float)
    known = ~np.isnan(values)
    order = np.argsort(np.where(known, -values, np.inf), axis=1, kind="stable")
    descending = np.take_along_axis(np.where(known, values, 0.0), order, axis=1)
    sums = np.cumsum(descending, axis=1)
    for column in range(values.shape[1] - 2, -1, -1):
        tied = descending[:, column] == descending[:, column + 1]
        sums[:, column] = np.where(tied, sums[:, column + 1], sums[:, column])
    scores = np.empty_like(sums)
    np.put_along_axis(scores, order, sums, axis=1)
    return np.where(known, scores, np.nan)


def conformal_threshold(scores: ArrayLike, patients: ArrayLike, miscoverage: float) -> float:
    """The score that the right choice of a question of another patient exceeds with a probability of ``miscoverage``.

    Questions of one patient are not exchangeable with those of others, patients are: each patient has the same weight,
    shared by its questions, and one more patient weighs at infinity. For patients with one question each this is the
    usual ⌈(n + 1)(1 − miscoverage)⌉-th smallest score.

    Source: Lee, Barber & Willett, "Distribution-free inference with hierarchical data", 2023 (arXiv 2306.06342).

    Args:
        scores: of the right choices, of shape ``(n,)``.
        patients: of each question, of shape ``(n,)``.
        miscoverage: between 0 and 1.

    Returns:
        The threshold; infinite if there are too few patients, so that every set holds all choices.

    Raises:
        InputError: the miscoverage is not between 0 and 1, or a score is NaN.
    """
    values = np.asarray(scores, dtype=float)
    if not 0 < miscoverage < 1:
        raise InputError("a share between 0 and 1", f"{miscoverage}", "miscoverage", "The usual one is 0.1.")
    if np.isnan(values).any():
        found = f"{int(np.isnan(values).sum())} NaN"
        raise InputError("a score of every right choice", found, "scores", "Leave out questions without probabilities.")
    _, codes, sizes = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    weights = 1 / ((len(sizes) + 1) * sizes[codes])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= 1 - miscoverage - _ROUNDING
    return float(values[order][reached.argmax()]) if reached.any() else float("inf")


def prediction_sets(scores: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Which choices each set holds; the choice that fits best is always among them.

    Args:
        scores: of all choices, of shape ``(n, K)``, NaN behind those of a question.
        threshold: from `conformal_threshold`.

    Returns:
        Of the same shape.
    """
    values = np.asarray(scores, dtype=float)
    known = ~np.isnan(values)
    best = np.where(known, values, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    return known & ((values <= threshold + _ROUNDING) | (values == best))

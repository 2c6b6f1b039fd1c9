"""How well stated probabilities and confidences agree with what turns out to be right.

Questions may offer different numbers of choices. Their probabilities are then the rows of one array ``(n, K)``, K the
most choices that any question has, with NaN behind the choices of a question. Scores of a confidence need no
probabilities: they take ``confidence`` and ``right`` of shape ``(n,)``, so that what a language model states of its own
certainty is judged like the probability that a classifier gives to its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from temmed.errors import InputError

Floats = NDArray[np.float64]
Binning = Literal["width", "mass"]

#: Usual number of bins (Guo et al., "On calibration of modern neural networks", ICML 2017).
BINS = 15
#: A probability under this counts as this much in a logarithm, as in scikit-learn.
LEAST = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in each of B bins of confidence.

    Attributes:
        edges: B + 1 bounds; a bin holds its lower bound, and the last one also 1.
        count: items of each bin.
        confidence: their mean confidence, NaN in an empty bin.
        accuracy: the share of them that is right, NaN in an empty bin.
    """

    edges: Floats
    count: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats


def bin_edges(confidence: ArrayLike, bins: int = BINS, binning: Binning = "width") -> Floats:
    """Bounds of bins of confidence: of equal width, or each with as many of these items as ties allow.

    Args:
        confidence: between 0 and 1, of shape ``(n,)``.
        bins: number of bins B.
        binning: ``width`` or ``mass``.

    Returns:
        B + 1 increasing bounds from 0 to 1; equal ones, where ties make them so, enclose an empty bin.
    """
    shares = np.linspace(0, 1, bins + 1)
    values = np.asarray(confidence, dtype=float)
    if binning == "width" or not values.size:
        return shares
    return np.concatenate([[0.0], np.quantile(values, shares[1:-1]), [1.0]])


def bin_index(confidence: ArrayLike, edges: ArrayLike) -> NDArray[np.intp]:
    """The bin of each confidence, 0…B-1, for bounds as `bin_edges` gives them."""
    return np.searchsorted(np.asarray(edges, dtype=float)[1:-1], np.asarray(confidence, dtype=float), side="right")


def reliability(confidence: ArrayLike, right: ArrayLike, bins: int = BINS, binning: Binning = "width") -> Reliability:
    """The table behind a reliability diagram.

    Args:
        confidence: between 0 and 1, of shape ``(n,)``.
        right: whether each answer is right, of shape ``(n,)``.
        bins: number of bins B.
        binning: ``width`` or ``mass``; see `bin_edges`.

    Raises:
        InputError: a confidence is not between 0 and 1.
    """
    stated, correct = _pair(confidence, right)
    edges = bin_edges(stated, bins, binning)
    places = bin_index(stated, edges)
    count = np.bincount(places, minlength=bins)
    below = np.where(count > 0, count, np.nan)
    sums = (np.bincount(places, weights=values, minlength=bins) for values in (stated, correct))
    return Reliability(edges, count, *(values / below for values in sums))


def expected_calibration_error(
    confidence: ArrayLike, right: ArrayLike, bins: int = BINS, binning: Binning = "width"
) -> float:
    """ECE: mean over items of the distance of accuracy and mean confidence in the item's bin.

    Source: Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015; with bins of
    equal mass, Nixon et al., "Measuring calibration in deep learning", 2019.

    Args:
        confidence: between 0 and 1, of shape ``(n,)``.
        right: whether each answer is right, of shape ``(n,)``.
        bins: number of bins.
        binning: ``width`` or ``mass``; see `bin_edges`.

    Returns:
        Between 0 and 1; NaN without items.

    Raises:
        InputError: a confidence is not between 0 and 1.

    Examples:
        >>> round(expected_calibration_error([0.9, 0.9, 0.6], [1, 0, 1]), 4)
        0.4
    """
    table = reliability(confidence, right, bins, binning)
    if not (total := table.count.sum()):
        return float("nan")
    return float(np.nansum(np.abs(table.accuracy - table.confidence) * table.count) / total)


def brier_scores(probabilities: ArrayLike, truth: ArrayLike) -> Floats:
    """Squared distance of the probabilities of each question from its truth, summed over the choices.

    Args:
        probabilities: of shape ``(n, K)``, NaN behind the choices of a question.
        truth: index of the right choice, of shape ``(n,)``.

    Returns:
        Between 0 and 2, of shape ``(n,)``; their mean is the multiclass Brier score (Brier 1950), which for two choices
        is twice the score of the probability of one of them.

    Raises:
        InputError: the truth is none of the choices, or they are no probabilities.
    """
    values, of_truth = _of_truth(probabilities, truth)
    return np.nansum(values**2, axis=1) - 2 * of_truth + 1


def negative_log_likelihoods(probabilities: ArrayLike, truth: ArrayLike) -> Floats:
    """−ln of the probability of each right choice, in nats.

    Args:
        probabilities: of shape ``(n, K)``, NaN behind the choices of a question.
        truth: index of the right choice, of shape ``(n,)``.

    Returns:
        Of shape ``(n,)``, at most −ln `LEAST`.

    Raises:
        InputError: the truth is none of the choices, or they are no probabilities.
    """
    return -np.log(np.maximum(_of_truth(probabilities, truth)[1], LEAST))


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    """Error among the surest answers, for every number of them.

    Answers that are equally sure have no order: each number of them stands for their expectation over all orders.

    Args:
        confidence: any number that grows with certainty, of shape ``(n,)``.
        right: whether each answer is right, of shape ``(n,)``.

    Returns:
        Coverage 1/n, 2/n, …, 1, and the share of wrong answers at each, both of shape ``(n,)``.

    Raises:
        InputError: a confidence is NaN.
    """
    sure, wrong = np.asarray(confidence, dtype=float), 1.0 - np.asarray(right, dtype=float)
    if np.isnan(sure).any():
        raise _refusal("a confidence of every answer", f"{int(np.isnan(sure).sum())} NaN")
    _, groups, sizes = np.unique(-sure, return_inverse=True, return_counts=True)
    of_group = np.bincount(groups, weights=wrong, minlength=len(sizes)) / np.maximum(sizes, 1)
    kept = np.arange(1, len(sure) + 1)
    return kept / len(sure) if len(sure) else kept.astype(float), np.cumsum(np.repeat(of_group, sizes)) / kept


def area_under_risk_coverage(confidence: ArrayLike, right: ArrayLike) -> float:
    """AURC: mean of the risk over all coverages; 0 is best, and a confidence that says nothing has the error rate.

    Source: Geifman et al., "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019.

    Args:
        confidence: any number that grows with certainty, of shape ``(n,)``.
        right: whether each answer is right, of shape ``(n,)``.

    Returns:
        Between 0 and 1; NaN without items.

    Raises:
        InputError: a confidence is NaN.

    Examples:
        >>> area_under_risk_coverage([0.9, 0.8, 0.7, 0.6], [1, 1, 1, 0])
        0.0625
    """
    _, risk = risk_coverage(confidence, right)
    return float(risk.mean()) if risk.size else float("nan")


def _pair(confidence: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    stated, correct = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    inside = (stated >= 0) & (stated <= 1)
    if not inside.all():
        raise _refusal("values from 0 to 1", f"{int((~inside).sum())} others, as {stated[~inside][0]}")
    return stated, correct


def _of_truth(probabilities: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    values, places = np.asarray(probabilities, dtype=float), np.asarray(truth, dtype=np.int64)
    if not len(values):
        return values.reshape(0, 0), np.zeros(0)
    inside = (places >= 0) & (places < values.shape[1])
    of_truth = np.where(inside, values[np.arange(len(values)), np.where(inside, places, 0)], np.nan)
    if not ((of_truth >= 0) & (of_truth <= 1)).all():
        found = f"{int((~((of_truth >= 0) & (of_truth <= 1))).sum())} without"
        raise InputError("a probability of the right choice", found, "probabilities", "Leave such questions out.")
    return values, of_truth


def _refusal(expected: str, found: str) -> InputError:
    return InputError(expected, found, "confidence", "Leave out answers that state none.")

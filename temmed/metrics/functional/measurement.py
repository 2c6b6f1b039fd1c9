"""Errors of measured values and of the ratio of two of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def relative_error(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """``|predicted - truth| / |truth|``, elementwise.

    Args:
        truth: true values, not zero.
        predicted: answered values; NaN stands for no answer, which counts as an error of 1, that of answering zero.

    Returns:
        Relative errors; NaN where the truth is NaN or zero, for which no relative error exists.

    Examples:
        >>> relative_error([10.0, 20.0], [12.0, float("nan")]).tolist()
        [0.2, 1.0]
    """
    true = np.asarray(truth, dtype=float)
    given = np.nan_to_num(np.asarray(predicted, dtype=float), nan=0.0)
    scale = np.where(true == 0, np.nan, np.abs(true))
    error: NDArray[np.float64] = np.abs(given - true) / scale
    return error


def ratio_error(
    prior: ArrayLike, current: ArrayLike, predicted_prior: ArrayLike, predicted_current: ArrayLike
) -> NDArray[np.float64]:
    """Relative error of ``current / prior`` as it follows from the two values that a model cites.

    A missing value, or a cited prior of zero or less, gives no ratio and counts as an error of 1. Where the true
    values have no ratio, or one of zero, the error is NaN.

    Examples:
        >>> ratio_error([10.0], [20.0], [10.0], [19.0]).round(3).tolist()
        [0.05]
    """
    true_prior, cited_prior = np.asarray(prior, dtype=float), np.asarray(predicted_prior, dtype=float)
    truth = np.asarray(current, dtype=float) / np.where(true_prior == 0, np.nan, true_prior)
    cited = np.asarray(predicted_current, dtype=float) / np.where(cited_prior > 0, cited_prior, np.nan)
    return relative_error(truth, cited)

"""Scaling of stated certainty, fitted on the validation subset and applied to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from temmed.errors import InputError
from temmed.evaluation.confidence import Certainty
from temmed.metrics.functional.calibration import LEAST, negative_log_likelihoods

Floats = NDArray[np.float64]
Method = Literal["temperature", "platt", "isotonic"]

METHODS: tuple[Method, ...] = get_args(Method)
#: Between which the temperature is sought.
_TEMPERATURES = (1e-2, 1e2)
#: Confidences nearer than this to 0 or 1 have the log odds of this: some models state exactly 1, which has none.
_EDGE = 1e-6


@dataclass(frozen=True)
class Scaling:
    """A fitted scaling.

    Attributes:
        method: ``temperature`` changes the probabilities of all choices, and with them the confidence; ``platt`` and
            ``isotonic`` change the confidence alone.
        n: answers that it was fitted on.
        temperature: the fitted temperature, ``None`` for the other methods.
        scale: confidences to confidences, ``None`` for ``temperature``.
    """

    method: Method
    n: int
    temperature: float | None = None
    scale: Callable[[Floats], Floats] | None = None

    @classmethod
    def fit(cls, method: Method, certainty: Certainty, where: str) -> Scaling:
        """Fit to answers whose truth is known.

        Args:
            method: one of `METHODS`.
            certainty: of the answers; those that state nothing are left out.
            where: where they are from, for messages.

        Raises:
            InputError: no answer states what the method needs.
        """
        rows = certainty.truth >= 0 if method == "temperature" else certainty.known
        if not rows.any():
            if method == "temperature":
                needed, remedy = "answers with probabilities", "With a confidence alone, choose platt or isotonic."
            else:
                needed, remedy = "answers with a confidence or with probabilities", "Predict the val subset with them."
            raise InputError(needed, "none", where, remedy)
        n = int(rows.sum())
        if method == "temperature":
            found = fit_temperature(certainty.probabilities[rows], certainty.truth[rows])
            return cls(method, n, temperature=found)
        fit = fit_platt if method == "platt" else fit_isotonic
        return cls(method, n, scale=fit(certainty.confidence[rows], certainty.right[rows]))

    def apply(self, certainty: Certainty) -> Certainty:
        """The certainty, scaled.

        What a method does not change is not repeated: after ``platt`` and ``isotonic`` there are no probabilities, and
        ``temperature`` leaves answers out that have a confidence and no probabilities.
        """
        if self.temperature is not None:
            probabilities = with_temperature(certainty.probabilities, self.temperature)
            return replace(certainty, probabilities=probabilities, confidence=certainty.of_answers(probabilities))
        assert self.scale is not None
        confidence = np.full(len(certainty.confidence), np.nan)
        stated = ~np.isnan(certainty.confidence)
        if stated.any():
            confidence[stated] = self.scale(certainty.confidence[stated])
        nothing = np.full((len(confidence), 0), np.nan)
        return replace(certainty, probabilities=nothing, truth=np.full_like(certainty.truth, -1), confidence=confidence)


def with_temperature(probabilities: ArrayLike, temperature: float) -> Floats:
    """Probabilities whose logarithms are divided by a temperature: softmax(ln p ÷ T).

    Args:
        probabilities: of shape ``(n, K)``, NaN behind the choices of a question.
        temperature: above 1 it makes them more alike, below 1 less; 1 only makes their sum 1.

    Returns:
        Of the same shape, with the same NaN.
    """
    values = np.asarray(probabilities, dtype=float)
    logits = np.log(np.maximum(values, LEAST)) / temperature
    known = ~np.isnan(values)
    highest = np.where(known, logits, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    powers = np.exp(logits - np.where(np.isfinite(highest), highest, 0.0))
    sums = np.nansum(powers, axis=1, keepdims=True)
    return powers / np.where(sums > 0, sums, 1.0)


def fit_temperature(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """The temperature under which the truth is likeliest.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017.

    Args:
        probabilities: of shape ``(n, K)``, NaN behind the choices of a question.
        truth: index of the right choice, of shape ``(n,)``.

    Returns:
        Between 0.01 and 100.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = with_temperature(probabilities, float(np.exp(log_temperature)))
        return float(negative_log_likelihoods(scaled, truth).mean())

    bounds = tuple(np.log(_TEMPERATURES))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x))


def fit_platt(confidence: ArrayLike, right: ArrayLike) -> Callable[[Floats], Floats]:
    """Logistic regression of being right on the log odds of the confidence.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999, with his targets, (n₊ + 1) ÷ (n₊ + 2) and
    1 ÷ (n₋ + 2), which keep it finite where all answers are right.

    Args:
        confidence: between 0 and 1, of shape ``(n,)``.
        right: 1 for a right answer, 0 for a wrong one, of shape ``(n,)``.

    Returns:
        A function of confidences.
    """
    from sklearn.linear_model import LogisticRegression

    correct = np.asarray(right, dtype=float)
    odds = _log_odds(confidence)
    targets = np.where(correct == 1, (correct.sum() + 1) / (correct.sum() + 2), 1 / ((1 - correct).sum() + 2))
    # A target between 0 and 1 is an item of either class, with the weights of both.
    labels = np.repeat([1, 0], len(odds))
    model = LogisticRegression(C=1e10, tol=1e-8, max_iter=1000)
    model.fit(np.concatenate([odds, odds]), labels, sample_weight=np.concatenate([targets, 1 - targets]))
    return lambda stated: model.predict_proba(_log_odds(stated))[:, 1]


def fit_isotonic(confidence: ArrayLike, right: ArrayLike) -> Callable[[Floats], Floats]:
    """The non-decreasing function of the confidence that is nearest to being right, in squares.

    Source: Zadrozny & Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.

    Args:
        confidence: between 0 and 1, of shape ``(n,)``.
        right: 1 for a right answer, 0 for a wrong one, of shape ``(n,)``.

    Returns:
        A function of confidences, linear between those that it was fitted on and constant beyond.
    """
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(confidence, right)
    return lambda stated: model.predict(stated)


def _log_odds(confidence: ArrayLike) -> Floats:
    values = np.clip(np.asarray(confidence, dtype=float), _EDGE, 1 - _EDGE)
    return (np.log(values) - np.log1p(-values))[:, None]

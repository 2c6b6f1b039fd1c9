"""What a model says of its own certainty, judged: probabilities of the choices, and the confidence in its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.evaluation.statistics import Estimate, PatientResampler, Replicates, named_estimates, ratio
from temmed.metrics.functional.calibration import (
    BINS,
    LEAST,
    Binning,
    area_under_risk_coverage,
    bin_edges,
    bin_index,
    brier_scores,
    negative_log_likelihoods,
)
from temmed.metrics.functional.ranking import macro_auprc, macro_auroc

Floats = NDArray[np.float64]
Masks = Mapping[str, NDArray[np.bool_]]

#: Calibration errors by the way their bins are made.
BINNINGS: dict[str, Binning] = {"ece": "width", "ece_mass": "mass"}


@dataclass(frozen=True)
class Certainty:
    """The stated certainty of n answers.

    Attributes:
        probabilities: of shape ``(n, K)``; NaN behind the choices of a question, and where none are given.
        truth: index of the right choice, −1 where the question has none or no probabilities are given; ``(n,)``.
        confidence: in the answer: what the model states, else the probability of its answer; NaN without both.
        right: 1 for a right answer, 0 for a wrong one, NaN for a question without choices.
        answered: index of the choice that the model answers, −1 as for the truth.
    """

    probabilities: Floats
    truth: NDArray[np.int64]
    confidence: Floats
    right: Floats
    answered: NDArray[np.int64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """The answers that have a confidence and are right or wrong, of shape ``(n,)``."""
        return ~np.isnan(self.confidence) & ~np.isnan(self.right)

    @classmethod
    def of(cls, questions: pd.DataFrame, answers: pd.DataFrame, right: pd.Series) -> Certainty:
        """Collect it from answers that are aligned with their questions.

        Args:
            questions: rows of a timeline's ``questions`` table.
            answers: columns ``answer, probabilities, confidence``.
            right: whether each answer is right, NaN for a question without choices.
        """
        judged = right.notna().to_numpy()
        cells = zip(answers["probabilities"], judged, strict=True)
        given = [cell if known and cell is not None else () for cell, known in cells]
        sizes = np.array([len(cell) for cell in given], dtype=np.int64)
        probabilities = np.full((len(given), int(sizes.max(initial=0))), np.nan)
        probabilities[np.arange(probabilities.shape[1]) < sizes[:, None]] = np.concatenate([*given, []])
        truth = _places(questions["choices"], questions["answer"], sizes)
        answered = _places(questions["choices"], answers["answer"], sizes)
        found = cls(probabilities, truth, np.zeros(0), right.to_numpy(dtype=float), answered)
        stated = answers["confidence"].to_numpy(dtype=float, na_value=np.nan)
        confidence = np.where(np.isnan(stated), found.of_answers(probabilities), stated)
        return replace(found, confidence=np.where(judged, confidence, np.nan))

    def of_answers(self, probabilities: Floats) -> Floats:
        """The probability of each answer, of shape ``(n,)``; NaN for an answer that is none of the choices."""
        found = np.full(len(self.answered), np.nan)
        rows = np.flatnonzero(self.answered >= 0)
        found[rows] = probabilities[rows, self.answered[rows]]
        return found

    def scores(self) -> dict[str, Floats]:
        """Scores of single answers whose mean is reported, each of shape ``(n,)``, NaN where one does not apply.

        ``brier`` and ``nll`` judge the probabilities of all choices, ``confidence_brier`` and ``confidence_nll`` the
        confidence, as the probability that the answer is right.
        """
        rows = self.truth >= 0
        scores = {name: np.full(len(rows), np.nan) for name in ("brier", "nll")}
        scores["brier"][rows] = brier_scores(self.probabilities[rows], self.truth[rows])
        scores["nll"][rows] = negative_log_likelihoods(self.probabilities[rows], self.truth[rows])
        of_outcome = np.where(self.right == 1, self.confidence, 1 - self.confidence)
        return scores | {
            "confidence": self.confidence,
            "confidence_brier": (self.confidence - self.right) ** 2,
            "confidence_nll": -np.log(np.maximum(of_outcome, LEAST)),
        }


def certainty_estimates(
    certainty: Certainty, masks: Masks, resampler: PatientResampler
) -> Iterator[tuple[str, Estimate]]:
    """Every score of certainty, whole and by slice, under its name in ``metrics.json`` without subset and task.

    Args:
        certainty: of the questions that the resampler knows.
        masks: slice name → the questions of it; the whole has the name "".
        resampler: knows the patient of each question.
    """
    for name, values in certainty.scores().items():
        columns = np.stack([np.where(mask, values, np.nan) for mask in masks.values()], axis=1)
        yield from named_estimates(name, masks, resampler.means(columns).estimates())
    kept = {name: rows for name, mask in masks.items() if (rows := mask & certainty.known).any()}
    for name, rows in kept.items():
        area = area_under_risk_coverage(certainty.confidence[rows], certainty.right[rows])
        yield from named_estimates("aurc", [name], [without_interval(area, int(rows.sum()))])
        for metric, binning in BINNINGS.items():
            yield from named_estimates(
                metric, [name], calibration_error(certainty, rows, resampler, binning).estimates()
            )
    if "" in kept:
        yield from _reliability(certainty, kept[""], resampler)


def calibration_error(
    certainty: Certainty, rows: NDArray[np.bool_], resampler: PatientResampler, binning: Binning = "width"
) -> Replicates:
    """ECE of the confidence over some answers.

    The bins stay as they are in every resample. A resample has some gap in each bin by chance alone, so its ECE tends
    to lie above that of the data: read the interval with that in mind.

    Args:
        certainty: of the questions that the resampler knows.
        rows: the answers that count, each with a confidence; of shape ``(n,)``.
        resampler: knows the patient of each question.
        binning: ``width`` or ``mass``.
    """
    stated, right = certainty.confidence, certainty.right
    places = np.where(rows, bin_index(stated, bin_edges(stated[rows], BINS, binning)), -1)
    gaps, gap_samples = resampler.group_sums(stated - right, places, BINS)
    count, count_samples = resampler.group_sums(np.ones(len(rows)), np.where(rows, 0, -1), 1)
    value = ratio(np.abs(gaps).sum(keepdims=True), count)
    samples = ratio(np.abs(gap_samples).sum(axis=1, keepdims=True), count_samples)
    patients = np.array([len(np.unique(resampler.codes[rows]))])
    return Replicates(value, samples, count.astype(np.int64), patients)


def ranking_estimates(
    certainty: Certainty, choices: pd.Series, classes: Sequence[str], masks: Masks
) -> Iterator[tuple[str, Estimate]]:
    """``auroc`` and ``auprc`` of a task whose questions all offer the same choices, whatever their order.

    They are no ratios of sums over patients and have no interval.

    Args:
        certainty: of all questions.
        choices: of all questions.
        classes: the choices of the task.
        masks: slice name → the questions of it.
    """
    known = certainty.truth >= 0
    places = {name: place for place, name in enumerate(classes)}
    for name, mask in masks.items():
        rows = np.flatnonzero(mask & known)
        if not len(rows):
            continue
        order = np.array([[places[choice] for choice in cell] for cell in choices.iloc[rows]])
        probabilities = np.empty(order.shape)
        np.put_along_axis(probabilities, order, certainty.probabilities[rows, : len(classes)], axis=1)
        truth = order[np.arange(len(rows)), certainty.truth[rows]]
        for metric, score in (("auroc", macro_auroc), ("auprc", macro_auprc)):
            yield from named_estimates(metric, [name], [without_interval(score(probabilities, truth), len(rows))])


def without_interval(value: float, n: int) -> Estimate:
    """A statistic whose interval is not estimated."""
    return Estimate(value, float("nan"), float("nan"), n)


def _reliability(
    certainty: Certainty, rows: NDArray[np.bool_], resampler: PatientResampler
) -> Iterator[tuple[str, Estimate]]:
    """Accuracy and mean confidence in each bin of confidence: the reliability diagram."""
    edges = bin_edges([])
    places = np.where(rows, bin_index(certainty.confidence, edges), -1)
    names = [f"confidence={low:.2f}-{high:.2f}" for low, high in pairwise(edges)]
    for metric, values in (("accuracy", certainty.right), ("confidence", certainty.confidence)):
        yield from named_estimates(metric, names, resampler.group_means(values, places, BINS).estimates())


def _places(choices: pd.Series, answers: pd.Series, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of each answer among the choices; −1 where there are no probabilities or it is none of them."""
    cells = zip(choices.tolist(), answers.tolist(), sizes.tolist(), strict=True)
    found = [list(offered).index(answer) if size and answer in list(offered) else -1 for offered, answer, size in cells]
    return np.array(found, dtype=np.int64)

"""Uncertainty when several questions come from one patient.

Questions of a patient share images and are not independent, so patients are what is resampled and permuted. Means and
F1 are functions of sums over questions: those are taken once per patient, and a resample is a weighted sum of patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from temmed.metrics.functional.classification import grouped_confusion, macro_f1

Floats = NDArray[np.float64]

LEVEL = 0.95
#: Resamples or permutations whose draws are held in memory at once.
_CHUNK = 256


@dataclass(frozen=True)
class Estimate:
    """A statistic, the interval that covers it, and the number of items it rests on.

    The bounds are NaN where no interval can be had: with fewer than two patients.
    """

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        """The form in which ``metrics.json`` holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Replicates:
    """M statistics and what they become in each of R resamples.

    Attributes:
        value: on the data themselves, of shape ``(M,)``.
        samples: on the resamples, of shape ``(R, M)``; NaN where a resample holds no item.
        n: items that each rests on, of shape ``(M,)``.
        n_patients: patients that each rests on, of shape ``(M,)``.
    """

    value: Floats
    samples: Floats
    n: NDArray[np.int64]
    n_patients: NDArray[np.int64]

    @classmethod
    def average(cls, runs: Sequence[Replicates]) -> Replicates:
        """The mean over runs of the same statistics on the same items, as over the seeds of a model."""
        first = runs[0]
        value = np.mean([run.value for run in runs], axis=0)
        return cls(value, np.mean([run.samples for run in runs], axis=0), first.n, first.n_patients)

    @classmethod
    def over_runs(cls, runs: Sequence[Replicates], seed: int = 0) -> Replicates:
        """The mean over runs, resampled on two levels: the patients, as each run has them, and the runs themselves.

        Its intervals hold for another training, where those of `average` hold for these runs. With few runs they are
        still too narrow: a resample of three runs has two thirds of their variance.

        Args:
            runs: the same statistics on the same resamples of patients, of each seed or draw.
            seed: of the resampling of runs.
        """
        samples = np.stack([run.samples for run in runs])
        chosen = np.random.default_rng(seed).integers(0, len(runs), size=(len(runs), samples.shape[1]))
        drawn = np.take_along_axis(samples, chosen[:, :, None], axis=0)
        first = runs[0]
        return cls(np.mean([run.value for run in runs], axis=0), drawn.mean(axis=0), first.n, first.n_patients)

    def estimates(self, level: float = LEVEL) -> list[Estimate]:
        """Percentile intervals of the M statistics."""
        usable = (self.n_patients >= 2) & ~np.isnan(self.samples).all(axis=0)
        bounds = np.full((2, len(self.value)), np.nan)
        if usable.any():
            tails = [(1 - level) / 2, (1 + level) / 2]
            bounds[:, usable] = np.nanquantile(self.samples[:, usable], tails, axis=0)
        columns = zip(self.value, bounds[0], bounds[1], self.n, strict=True)
        return [Estimate(float(value), float(low), float(high), int(n)) for value, low, high, n in columns]


class PatientResampler:
    """Bootstrap resamples of patients, drawn once and used for every statistic.

    Using the same resamples for two models makes the interval of their difference a paired one.

    Args:
        patients: the patient of each item, of shape ``(n,)``.
        resamples: number of resamples R.
        seed: of the draws; equal patients, resamples and seed give equal weights.

    Attributes:
        patient_ids: the P patients, sorted.
        codes: index into them for each item, of shape ``(n,)``.
        seed: of the draws.
        weights: how often a resample holds a patient, of shape ``(R, P)``.
    """

    def __init__(self, patients: ArrayLike | pd.Series, resamples: int = 2000, seed: int = 0) -> None:
        self.patient_ids, self.codes = np.unique(np.asarray(patients), return_inverse=True)
        self.seed = seed
        n_patients = len(self.patient_ids)
        self.weights = np.zeros((resamples, n_patients), dtype=np.uint16)
        rng = np.random.default_rng(seed)
        for rows in _chunks(resamples if n_patients else 0):
            size = rows.stop - rows.start
            drawn = rng.integers(0, n_patients, size=(size, n_patients)) + np.arange(size)[:, None] * n_patients
            self.weights[rows] = np.bincount(drawn.ravel(), minlength=size * n_patients).reshape(size, n_patients)

    def means(self, values: ArrayLike) -> Replicates:
        """Means over items.

        Args:
            values: of shape ``(n,)`` or ``(n, M)``; NaN takes an item out of a column.
        """
        data = _columns(values)
        keep = ~np.isnan(data)
        counts = self._patient_sums(keep)
        sums = np.concatenate([self._patient_sums(np.where(keep, data, 0.0)), counts], axis=1)
        numerators, denominators = np.split(self._resampled_sums(sums), 2, axis=1)
        value = ratio(*np.split(sums.sum(axis=0), 2))
        return Replicates(value, ratio(numerators, denominators), keep.sum(axis=0), (counts > 0).sum(axis=0))

    def group_sums(self, values: ArrayLike, groups: ArrayLike, n_groups: int) -> tuple[Floats, Floats]:
        """Sums within groups of items that do not overlap; needs no column for each group.

        Args:
            values: of shape ``(n,)``.
            groups: index of the group of each item, −1 for an item that is in none.
            n_groups: number of groups G.

        Returns:
            The sums on the data, of shape ``(G,)``, and on the resamples, of shape ``(R, G)``.
        """
        cells = self._patient_group_sums(values, groups, n_groups)
        return cells.sum(axis=0), self._resampled_sums(cells)

    def group_means(self, values: ArrayLike, groups: ArrayLike, n_groups: int) -> Replicates:
        """Means within groups of items that do not overlap.

        Args:
            values: of shape ``(n,)``; NaN takes an item out.
            groups: index of the group of each item, −1 for an item that is in none.
            n_groups: number of groups.
        """
        data = np.asarray(values, dtype=float)
        members = np.where(np.isnan(data), -1, np.asarray(groups))
        counts = self._patient_group_sums(np.ones(len(data)), members, n_groups)
        sums = np.concatenate([self._patient_group_sums(data, members, n_groups), counts], axis=1)
        numerators, denominators = np.split(self._resampled_sums(sums), 2, axis=1)
        n = counts.sum(axis=0)
        value = ratio(sums[:, :n_groups].sum(axis=0), n)
        return Replicates(value, ratio(numerators, denominators), n.astype(np.int64), (counts > 0).sum(axis=0))

    def macro_f1(self, truth: ArrayLike, predicted: ArrayLike, n_classes: int, keep: ArrayLike) -> Replicates:
        """Macro F1 over items; arguments as for `of_confusion`."""
        return self.of_confusion([macro_f1], truth, predicted, n_classes, keep)[0]

    def of_confusion(
        self,
        scores: Sequence[Callable[[Floats], Floats]],
        truth: ArrayLike,
        predicted: ArrayLike,
        n_classes: int,
        keep: ArrayLike,
    ) -> list[Replicates]:
        """Scores of confusion matrices, from those of the patients.

        Args:
            scores: such as `temmed.metrics.functional.classification.macro_f1`.
            truth: class indices in 0…n_classes-1, of shape ``(n,)``.
            predicted: class indices, or `temmed.metrics.functional.classification.UNPARSABLE`.
            n_classes: number of classes K.
            keep: the items that count, of shape ``(n,)`` or ``(n, M)``.
        """
        true, given, mask = np.asarray(truth), np.asarray(predicted), np.asarray(keep, dtype=bool)
        mask = mask if mask.ndim == 2 else mask[:, None]
        confusions = np.stack(
            [
                grouped_confusion(true[rows], given[rows], n_classes, self.codes[rows], len(self.patient_ids))
                for rows in mask.T
            ],
            axis=1,
        ).astype(float)  # (P, M, K, K + 1)
        samples = self._resampled_sums(confusions.reshape(len(confusions), -1)).reshape(-1, *confusions.shape[1:])
        total, n = confusions.sum(axis=0), mask.sum(axis=0)
        n_patients = (confusions.sum(axis=(2, 3)) > 0).sum(axis=0)
        return [Replicates(score(total), score(samples), n, n_patients) for score in scores]

    def medians(self, values: ArrayLike) -> Replicates:
        """Medians over items; of an even number of them, the lower of the two in the middle.

        Args:
            values: as for `means`.
        """
        data = _columns(values)
        keep = ~np.isnan(data)
        columns = [self._medians(data[rows, column], self.codes[rows]) for column, rows in enumerate(keep.T)]
        return Replicates(
            np.array([value for value, _ in columns]),
            np.stack([samples for _, samples in columns], axis=1),
            keep.sum(axis=0),
            (self._patient_sums(keep) > 0).sum(axis=0),
        )

    def _medians(self, values: Floats, codes: NDArray[np.intp]) -> tuple[float, Floats]:
        samples = np.full(len(self.weights), np.nan)
        if not len(values):
            return float("nan"), samples
        order = np.argsort(values, kind="stable")
        ordered, codes = values[order], codes[order]
        for rows in _chunks(len(self.weights)):
            cumulated = np.cumsum(self.weights[rows][:, codes], axis=1, dtype=np.int64)
            total = cumulated[:, -1]
            middle = (2 * cumulated >= total[:, None]).argmax(axis=1)
            samples[rows] = np.where(total > 0, ordered[middle], np.nan)
        return float(ordered[(len(ordered) - 1) // 2]), samples

    def _patient_sums(self, columns: NDArray[Any]) -> Floats:
        """Sums of each patient, of shape ``(P, M)``; column by column, as copies of a million rows are large."""
        n_patients = len(self.patient_ids)
        sums = [np.bincount(self.codes, weights=column, minlength=n_patients) for column in columns.T]
        return np.stack(sums, axis=1) if sums else np.zeros((n_patients, 0))

    def _patient_group_sums(self, values: ArrayLike, groups: ArrayLike, n_groups: int) -> Floats:
        """Sums of each patient in each group, of shape ``(P, G)``."""
        members = np.asarray(groups, dtype=np.int64)
        inside = members >= 0
        places = self.codes[inside] * n_groups + members[inside]
        size = len(self.patient_ids) * n_groups
        sums: Floats = np.bincount(places, weights=np.asarray(values, dtype=float)[inside], minlength=size).astype(
            float
        )
        return sums.reshape(len(self.patient_ids), n_groups)

    def _resampled_sums(self, sums: Floats) -> Floats:
        chunks = [self.weights[rows].astype(float) @ sums for rows in _chunks(len(self.weights))]
        return np.concatenate(chunks)


def named_estimates(
    metric: str, slices: Iterable[str], estimates: Iterable[Estimate]
) -> Iterator[tuple[str, Estimate]]:
    """Estimates of a metric by slice, under their names in ``metrics.json``; those of nothing are left out.

    Args:
        metric: its name.
        slices: of each estimate; "" for the whole.
        estimates: as many.
    """
    for name, estimate in zip(slices, estimates, strict=True):
        if estimate.n and not math.isnan(estimate.value):
            yield (f"{metric}/{name}" if name else metric), estimate


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """``numerator / denominator``, NaN where the denominator is zero."""
    below = np.asarray(denominator, dtype=float)
    empty = below == 0
    return np.where(empty, np.nan, np.asarray(numerator, dtype=float) / np.where(empty, 1.0, below))


def permutation_test(
    differences: ArrayLike, patients: ArrayLike | pd.Series, *, permutations: int = 10_000, seed: int = 0
) -> float:
    """Paired, patient-clustered permutation test of a mean difference of zero.

    Under the null hypothesis the two models are exchangeable, so the sign of each patient's summed difference is
    arbitrary. All questions of a patient change sign together.

    Args:
        differences: score of the one model minus score of the other on each item, of shape ``(n,)``.
        patients: the patient of each item.
        permutations: number of random sign assignments.
        seed: of their draws.

    Returns:
        Two-sided p value; the observed assignment counts as one of the permutations, so that it is never zero.
    """
    _, codes = np.unique(np.asarray(patients), return_inverse=True)
    sums = np.bincount(codes, weights=np.asarray(differences, dtype=float))
    # Differences of averaged scores are not exact in binary: ties with the observed value must still be ties.
    observed = abs(float(sums.sum())) - 1e-9 * float(np.abs(sums).sum())
    rng = np.random.default_rng(seed)
    extreme = 0
    for rows in _chunks(permutations):
        flips = rng.integers(0, 2, size=(rows.stop - rows.start, len(sums)), dtype=np.int8)
        # The sum with some signs flipped is the sum less twice what was flipped.
        extreme += int((np.abs(sums.sum() - 2 * (flips @ sums)) >= observed).sum())
    return (extreme + 1) / (permutations + 1)


def mcnemar_test(first: ArrayLike, second: ArrayLike) -> float:
    """Exact McNemar test on which of two models is right where exactly one is.

    It takes questions as independent, which they are not within a patient: read it beside `permutation_test`.

    Args:
        first: whether the one model is right, of shape ``(n,)``.
        second: whether the other is.

    Returns:
        Two-sided p value; 1 where the models are never right apart.
    """
    from scipy.stats import binomtest

    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment for several tests.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = least
    return adjusted


def _columns(values: ArrayLike) -> Floats:
    data = np.asarray(values, dtype=float)
    return data if data.ndim == 2 else data[:, None]


def _chunks(rows: int) -> Iterator[slice]:
    edges = [*range(0, rows, _CHUNK), rows]
    return (slice(start, stop) for start, stop in pairwise(edges))

"""Accuracy over horizons, in steps and in time, of one model's answers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.evaluation.benchmark import HORIZONS, Benchmark
from temmed.evaluation.statistics import Estimate, PatientResampler, Replicates
from temmed.metrics.functional.horizon import (
    LEAST_PATIENTS,
    horizon_aware_score,
    quantile_edges,
    skill,
    slope_per_doubling,
)
from temmed.timelines.schema import TIME_UNITS

Floats = NDArray[np.float64]

#: Clocks that horizons in time are measured by, by the name of their slices.
CLOCKS = {"day": "days", "second": "seconds"}


def horizon_estimates(
    benchmark: Benchmark, accuracy: Floats, task: str, resampler: PatientResampler
) -> Iterator[tuple[str, Estimate]]:
    """``horizon_score`` and ``horizon_slope`` of a task, in steps and in time, and its accuracy by horizon in time.

    The majority answer is that of the task in the train subset; bins in time hold equal shares of the train subset's
    questions of the task.

    Args:
        benchmark: the questions.
        accuracy: of each question, NaN where it does not apply; of shape ``(n,)``.
        task: the task.
        resampler: knows the patient of each question.

    Yields:
        Metric, with its slice if it has one, and estimate.
    """
    questions = benchmark.questions
    asked = (questions["task"] == task).to_numpy()
    steps = questions["horizon_steps"].to_numpy(dtype=float, na_value=np.nan)
    places = np.where(asked, pd.Index(HORIZONS).get_indexer(pd.Index(questions["horizon"])), -1)
    yield from _over_bins(benchmark, accuracy, steps, places, len(HORIZONS), "", resampler)
    clocks, times = horizon_times(benchmark, questions)
    train = benchmark.split.questions(benchmark.timeline, "train")
    train = train[train["task"] == task]
    train_clocks, train_times = horizon_times(benchmark, train)
    for clock, unit in CLOCKS.items():
        edges = quantile_edges(train_times[train_clocks == clock])
        rows = asked & (clocks == clock) & np.isfinite(times)
        if not rows.any() or not edges.size:
            continue
        places = np.where(rows, np.searchsorted(edges, times), -1)
        yield from _over_bins(benchmark, accuracy, times, places, len(edges) + 1, f"_{unit}", resampler)
        means = resampler.group_means(accuracy, places, len(edges) + 1).estimates()
        for label, estimate in zip(time_labels(edges), means, strict=True):
            if estimate.n:
                yield f"accuracy/horizon_{unit}={label}", estimate


def horizon_times(benchmark: Benchmark, questions: pd.DataFrame) -> tuple[NDArray[np.object_], Floats]:
    """The clock of each question's sequence (day, second, step) and its horizon in that unit; NaN for none."""
    sequences = benchmark.timeline.table("sequences").set_index("sequence_id")["time_unit"]
    units = questions["sequence_id"].map(sequences.map(TIME_UNITS))
    times = questions["horizon_time"].to_numpy(dtype=float, na_value=np.nan)
    factors = np.array([factor for _, factor in units], dtype=float)
    return np.array([clock for clock, _ in units], dtype=object), times * factors


def time_labels(edges: Floats) -> list[str]:
    """Names of the bins between inner bounds; a bin holds its upper bound.

    Examples:
        >>> time_labels(np.array([30.0, 90.5]))
        ['0-30', '30-90.5', '90.5+']
    """
    words = ["0", *(f"{edge:.6g}" for edge in edges)]
    return [f"{low}-{high}" for low, high in pairwise(words)] + [f"{words[-1]}+"]


def _over_bins(
    benchmark: Benchmark,
    accuracy: Floats,
    horizons: Floats,
    places: NDArray[np.intp],
    bins: int,
    suffix: str,
    resampler: PatientResampler,
) -> Iterator[tuple[str, Estimate]]:
    majority = benchmark.references["majority"].to_numpy(dtype=float)
    known = ~np.isnan(accuracy) & ~np.isnan(majority)
    places = np.where(known, places, -1)
    reached = resampler.group_means(accuracy, places, bins)
    least = resampler.group_means(majority, places, bins)
    typical = _geometric_means(horizons, places, bins)
    # A bin that the majority answers without error leaves nothing to gain and no score.
    counts = (reached.n_patients >= LEAST_PATIENTS) & ~np.isnan(skill(reached.value, least.value))
    if not counts.any():
        return

    def summary(means: Floats, references: Floats) -> Floats:
        scores = np.where(counts, skill(means, references), np.nan)
        overall = horizon_aware_score(means, references, np.where(counts, reached.n_patients, 0))
        return np.stack([overall, slope_per_doubling(scores, typical)], axis=-1)

    rests_on = [counts, counts & (typical > 0)]
    n = np.array([reached.n[some].sum() for some in rests_on])
    patients = np.array([len(np.unique(resampler.codes[np.isin(places, np.flatnonzero(some))])) for some in rests_on])
    found = Replicates(summary(reached.value, least.value), summary(reached.samples, least.samples), n, patients)
    for name, estimate in zip(("horizon_score", "horizon_slope"), found.estimates(), strict=True):
        if not np.isnan(estimate.value):
            yield f"{name}{suffix}", estimate


def _geometric_means(values: Floats, places: NDArray[np.intp], bins: int) -> Floats:
    """Typical horizon of each bin; NaN for a bin of horizons that are 0 or not known."""
    rows = (places >= 0) & (values > 0)
    n = np.bincount(places[rows], minlength=bins)
    sums = np.bincount(places[rows], weights=np.log(values[rows]), minlength=bins)
    return np.where(n > 0, np.exp(sums / np.maximum(n, 1)), np.nan)

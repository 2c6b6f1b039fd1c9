"""How well the events of a subset were detected: average precision, event- and segment-based F, windows, errors.

Sequences differ in how long a step from one time point to the next is, and in its unit. Tolerances and windows are
therefore in steps: times are taken from the start of the subset's own time, in units of the sequence's median gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.evaluation.statistics import Estimate, PatientResampler, Replicates
from temmed.metrics.functional.detection import (
    ACTIVITYNET_THRESHOLDS,
    average_precision,
    detect,
    mean_average_precision,
)
from temmed.metrics.functional.intervals import Intervals
from temmed.metrics.functional.onset_windows import Onsets, Windows, best_threshold, onset_windows
from temmed.metrics.functional.sound_events import Tally, event_based, rates, segment_based
from temmed.timelines.schema import TIME_UNITS

Floats = NDArray[np.float64]
Named = Iterator[tuple[str, Estimate]]

OVERLAPS = ("tiou", "tiou_best", "tiou_worst", "tiou_whole")
#: tIoU thresholds at which average precision is told.
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))
#: In steps: tolerance of event-based scores, length of segments, widths of windows and the stride between them.
COLLAR = 1.0
SEGMENT = 1.0
WIDTHS = (1, 2, 4, 8)
STRIDE = 1.0
#: Share of an event's length by which its offset may be wrong in event-based scores, as sed_eval has it.
SHARE_OF_LENGTH = 0.5

#: Predictions × thresholds × resamples up to which average precision has an interval: some seconds' work.
_AFFORDABLE = 10**8
#: The same, held in memory at once.
_PORTION = 4 * 10**6


def event_estimates(
    events: pd.DataFrame,
    intervals: pd.DataFrame,
    resamples: int,
    seed: int,
    validation: tuple[pd.DataFrame, pd.DataFrame] | None = None,
) -> Named:
    """All scores of detected events, by their names in ``metrics.json``; `docs/scoring.md` says what they are.

    Args:
        events: true events and their overlaps, as `temmed.evaluation.events.judge_events` returns them.
        intervals: predicted intervals, from the same.
        resamples: of the patient-clustered bootstrap.
        seed: of the bootstrap.
        validation: both of the val subset, for the thresholds of windows; without it every predicted onset counts.
    """
    yield from _means(events, OVERLAPS, resamples, seed)
    yield from _means(intervals, ("false_alarm",), resamples, seed)
    units = events["time_unit"].map({name: unit for name, (unit, _) in TIME_UNITS.items()})
    for unit in sorted(set(units)):
        names = {f"{end}_{what}": f"{end}_{what}_{unit}s" for end in ("onset", "offset") for what in ("error", "width")}
        yield from _means(events[units == unit].rename(columns=names), tuple(names.values()), resamples, seed)

    resampler = PatientResampler(events.drop_duplicates("sequence_id")["patient_id"], resamples, seed)
    sequences = pd.Index(events["sequence_id"].unique())
    yield from _rates("never", _never_tally(events, intervals), sequences, resampler)
    truth, given = _true_intervals(events), _given_intervals(intervals)
    for name, counted in (
        ("event_based", event_based(truth, given, t_collar=COLLAR, percentage_of_length=SHARE_OF_LENGTH)),
        ("segment_based", segment_based(truth, given, time_resolution=SEGMENT)),
    ):
        tally = pd.DataFrame(counted.by_sequence._asdict(), index=counted.sequences)
        yield from _rates(name, tally, sequences, resampler, error_rate=True)
    yield from _precision_estimates(events, intervals, sequences, resampler)
    for width in WIDTHS:
        windows = _windows(events, intervals, width)
        threshold = -np.inf
        if validation is not None:
            fitted = _windows(*validation, width)
            threshold = best_threshold(fitted)
            if np.isfinite(threshold):
                n = int(fitted.positive.sum())
                yield f"window_threshold/width={width}", Estimate(threshold, float("nan"), float("nan"), n)
        yield from _rates("window", _window_tally(windows, threshold), sequences, resampler, f"/width={width}")


def _means(table: pd.DataFrame, names: Sequence[str], resamples: int, seed: int) -> Named:
    """Means over rows; those of nothing are left out."""
    if table.empty:
        return
    means = PatientResampler(table["patient_id"], resamples, seed).means(table[list(names)])
    for name, estimate in zip(names, means.estimates(), strict=True):
        if estimate.n:
            yield name, estimate


def _rates(
    prefix: str,
    tally: pd.DataFrame,
    sequences: pd.Index,
    resampler: PatientResampler,
    suffix: str = "",
    *,
    error_rate: bool = False,
) -> Named:
    """Scores of counts, resampled over patients.

    Args:
        prefix: of the names.
        tally: the fields of a `Tally`, by sequence; sequences in which nothing was counted may be left out.
        sequences: all sequences, in the order in which the resampler knows them.
        resampler: knows the patient of each sequence.
        suffix: of the names.
        error_rate: whether the error rate is told.
    """
    counts = tally.reindex(sequences, fill_value=0.0)[list(Tally._fields)]
    means = resampler.means(counts)
    value = rates(Tally(*means.value))
    samples = rates(Tally(*means.samples.T))
    total = Tally(*counts.to_numpy(dtype=float).T)
    rests_on = {
        "f1": total.n_true + total.n_predicted,
        "precision": total.n_predicted,
        "recall": total.n_true,
        "error_rate": total.n_true,
    }
    n_patients = np.array(
        [np.count_nonzero(np.bincount(resampler.codes[counted > 0])) for counted in rests_on.values()]
    )
    n = np.array([int(counted.sum()) for counted in rests_on.values()])
    found = Replicates(np.array(value), np.stack(samples, axis=1), n, n_patients).estimates()
    for name, estimate in zip(rests_on, found, strict=True):
        if estimate.n and (error_rate or name != "error_rate"):
            yield f"{prefix}_{name}{suffix}", estimate


def _never_tally(events: pd.DataFrame, intervals: pd.DataFrame) -> pd.DataFrame:
    """Labels of each sequence that never happen, for which nothing is predicted, and both."""
    never = events["onset_upper"].isna().groupby([events["sequence_id"], events["label"]]).all()
    told = pd.MultiIndex.from_frame(intervals[["sequence_id", "label"]])
    silent = ~never.index.isin(told)
    counts = {"n_true": never, "n_predicted": silent, "hits": never & silent, "substitutions": 0}
    return pd.DataFrame(counts, index=never.index).astype(float).groupby("sequence_id").sum()


def _true_intervals(events: pd.DataFrame) -> Intervals:
    """What happens, at the midpoints of its bounds, in steps."""
    happens = events[events["onset_upper"].notna()]
    ends = [(happens[f"{end}_lower"] + happens[f"{end}_upper"]) / 2 for end in ("onset", "offset")]
    return Intervals(happens["sequence_id"], happens["label"], *(_in_steps(happens, end) for end in ends))


def _given_intervals(intervals: pd.DataFrame) -> Intervals:
    ends = (_in_steps(intervals, intervals[end]) for end in ("onset", "offset"))
    return Intervals(intervals["sequence_id"], intervals["label"], *ends)


def _in_steps(frame: pd.DataFrame, times: pd.Series) -> Floats:
    return ((times - frame["first"]) / frame["step"]).to_numpy(dtype=float)


def _precision_estimates(
    events: pd.DataFrame, intervals: pd.DataFrame, sequences: pd.Index, resampler: PatientResampler
) -> Named:
    """Average precision, mean over labels, at each threshold and in the mean over those of ActivityNet."""
    lasting = events[~events["instant"] & events["onset_upper"].notna()]
    if lasting.empty:
        return
    thresholds = np.concatenate([THRESHOLDS, ACTIVITYNET_THRESHOLDS])
    found = detect(_true_intervals(lasting), _given_intervals(intervals), intervals["score"], thresholds)
    patient = pd.Series(resampler.codes, index=sequences)
    codes, true_codes = (patient.loc[table["sequence_id"]].to_numpy() for table in (intervals, lasting))
    size = max(len(found.rows) * len(thresholds), 1)
    resamples = len(resampler.weights)

    def told(weights: Floats | None, true_weights: Floats | None) -> Floats:
        at = mean_average_precision(average_precision(found, weights, true_weights))
        means = at[..., len(THRESHOLDS) :].mean(axis=-1, keepdims=True)
        return np.concatenate([means, at[..., : len(THRESHOLDS)]], axis=-1)

    samples = np.full((resamples, 1 + len(THRESHOLDS)), np.nan)
    if size * resamples <= _AFFORDABLE:
        portion = max(_PORTION // size, 1)
        for start in range(0, resamples, portion):
            drawn = resampler.weights[start : start + portion].astype(float)
            samples[start : start + portion] = told(drawn[:, codes], drawn[:, true_codes])
    n, n_patients = (np.full(samples.shape[1], count) for count in (len(lasting), len(np.unique(true_codes))))
    names = ("average_precision", *(f"average_precision/tiou={threshold:g}" for threshold in THRESHOLDS))
    yield from zip(names, Replicates(told(None, None), samples, n, n_patients).estimates(), strict=True)


def _windows(events: pd.DataFrame, intervals: pd.DataFrame, width: float) -> Windows:
    happens = events[events["onset_upper"].notna()]
    lower, upper = (_in_steps(happens, happens[f"onset_{limit}"]) for limit in ("lower", "upper"))
    # An event that is on when the subset's time begins began at an unknown time before.
    lower = np.where((upper == 0) & ~happens["instant"].to_numpy(dtype=bool), -np.inf, lower)
    told = _in_steps(intervals, intervals["onset"])
    return onset_windows(
        Onsets(happens["sequence_id"], happens["label"], lower, upper),
        Onsets(intervals["sequence_id"], intervals["label"], told, told),
        intervals["score"],
        width=width,
        stride=STRIDE,
    )


def _window_tally(windows: Windows, threshold: float) -> pd.DataFrame:
    told = np.isfinite(windows.score) & (windows.score >= threshold)
    counts = {
        "n_true": windows.positive,
        "n_predicted": told,
        "hits": told & windows.positive,
        "substitutions": np.zeros(len(told)),
    }
    return pd.DataFrame(counts).astype(float).groupby(windows.sequence).sum()

"""Is an onset told in the right window of time? Precision and recall over windows ``[k s, k s + w)``.

Truths are known within limits, onset ∈ (lower, upper]. A window is positive if the limits of an onset lie inside it. It
is ignored if those of an onset straddle one of its edges, since nobody knows whether the onset lies inside, and none
lies inside for certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from temmed.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Decimals of a number of windows; what is beyond is rounding.
_DIGITS = 9


class Onsets(NamedTuple):
    """Onsets of labelled events, each field of shape ``(n,)``; where one is known exactly, both limits are it."""

    sequence: ArrayLike
    label: ArrayLike
    lower: ArrayLike
    upper: ArrayLike


@dataclass(frozen=True)
class Windows:
    """Windows that are positive or in which an onset is predicted, less the ignored ones; others are true negatives.

    Attributes:
        sequence: the sequence of each, of shape ``(n,)``.
        positive: whether there is an onset.
        score: greatest score of the onsets that are predicted there, −∞ where there is none.
    """

    sequence: NDArray[Any]
    positive: NDArray[np.bool_]
    score: Floats


def onset_windows(truth: Onsets, predicted: Onsets, score: ArrayLike, *, width: float, stride: float) -> Windows:
    """Cut the time of each sequence and label into windows ``[k · stride, k · stride + width)``, k = 0, 1, ….

    Args:
        truth: true onsets, without events that never happen. ``lower`` may be −∞, where an event was there from the
            start.
        predicted: predicted onsets, of which both limits are the same.
        score: how sure each prediction is, of shape ``(m,)``; a missing one (NaN) is below all others.
        width: w of the windows, in the unit of the times.
        stride: s from one window to the next; windows overlap if it is less than the width.

    Raises:
        InputError: width or stride is not above 0, or an onset lies before 0.
    """
    if not (width > 0 and stride > 0):
        found = f"{width:g} and {stride:g}"
        raise InputError("a width and a stride above 0", found, "onset_windows", "Choose positive numbers.")
    lower, upper = (np.asarray(limit, dtype=float) for limit in (truth.lower, truth.upper))
    moment = np.asarray(predicted.lower, dtype=float)
    early = min(upper.min(initial=0.0), moment.min(initial=0.0))
    if early < 0:
        raise InputError("times from 0 on", f"an onset of {early:g}", "onset_windows", "Shift the times.")
    groups, group = _group_codes((truth.sequence, predicted.sequence), (truth.label, predicted.label))
    true_group, given_group = group[: len(lower)], group[len(lower) :]

    # Window k overlaps (l, u] if l < k s + w and u ≥ k s; it holds all of it if l ≥ k s and u < k s + w.
    touched = _expand(_after(lower - width, stride), _until(upper, stride))
    inside = _expand(_after(upper - width, stride), _until(lower, stride))
    given = _expand(_after(moment - width, stride), _until(moment, stride))
    last = max((int(windows.max(initial=0)) for _, windows in (touched, inside, given)), default=0) + 1

    def keys(rows: Ints, windows: Ints, group: Ints) -> Ints:
        return group[rows] * last + windows

    positive, overlapped = keys(*inside, true_group), keys(*touched, true_group)
    claimed = keys(*given, given_group)
    # pandas hashes integers faster than NumPy does.
    every = np.sort(pd.unique(np.concatenate([positive, claimed])))
    holds = np.isin(every, positive)
    known = holds | ~np.isin(every, overlapped)
    every, holds = every[known], holds[known]
    best = np.full(len(every), -np.inf)
    place = np.searchsorted(every, claimed)
    kept = np.isin(claimed, every)
    least = -np.finfo(float).max
    sure = np.nan_to_num(np.asarray(score, dtype=float), nan=least, neginf=least)
    np.maximum.at(best, place[kept], sure[given[0][kept]])
    return Windows(groups[every // last], holds, best)


def best_threshold(windows: Windows) -> float:
    """The score from which on a predicted onset should count for the greatest F1; the highest of several.

    Returns:
        −∞ where there is no positive window or nothing is predicted: then every prediction counts.
    """
    told = np.isfinite(windows.score)
    order = np.argsort(-windows.score[told], kind="stable")
    scores, positive = windows.score[told][order], windows.positive[told][order]
    if not windows.positive.any() or not len(scores):
        return -np.inf
    last = np.append(scores[1:] != scores[:-1], True)
    hits = np.cumsum(positive)[last]
    f1 = 2 * hits / (np.flatnonzero(last) + 1 + windows.positive.sum())
    return float(scores[last][f1.argmax()])


def _after(time: Floats, stride: float) -> Floats:
    """Index of the first window that begins after a time, 0 at least."""
    return np.maximum(np.floor((time / stride).round(_DIGITS)) + 1, 0.0)


def _until(time: Floats, stride: float) -> Floats:
    """Index of the last window that begins at a time or before, −1 for none."""
    return np.maximum(np.floor((time / stride).round(_DIGITS)), -1.0)


def _expand(first: Floats, last: Floats) -> tuple[Ints, Ints]:
    """Every row with each of its windows from the first to the last."""
    count = np.maximum(last - first + 1, 0).astype(np.int64)
    row = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, np.repeat(first, count).astype(np.int64) + within


def _group_codes(
    sequences: tuple[ArrayLike, ArrayLike], labels: tuple[ArrayLike, ArrayLike]
) -> tuple[NDArray[Any], Ints]:
    """The sequence of each pair of a sequence and a label, and the pair of each event."""
    frame = pd.DataFrame(
        {
            name: np.concatenate([np.asarray(part, dtype=object) for part in parts])
            for name, parts in (("sequence", sequences), ("label", labels))
        }
    )
    codes: Ints = np.asarray(frame.groupby(["sequence", "label"], sort=True).ngroup(), dtype=np.int64)
    names = frame["sequence"].to_numpy()
    groups: NDArray[Any] = np.empty(int(codes.max(initial=-1)) + 1, dtype=object)
    groups[codes] = names
    return groups, codes

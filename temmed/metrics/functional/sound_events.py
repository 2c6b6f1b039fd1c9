"""Event-based and segment-based scores of sound event detection (Mesaros et al., Applied Sciences 2016).

They agree with sed_eval 0.2.1 wherever that is well defined. They differ where it is not:

- Substitutions of the event-based error rate are the most that a matching with the most hits leaves room for. sed_eval
  pairs what its matching happened to leave over in the order of rows, so that its error rate depends on that order.
- An instant makes the segment active in which it lies. In sed_eval one on the border of two segments makes none active.
- Times within 10⁻⁹ of a limit or a border are on it. In sed_eval 3.2 − 3.0 exceeds a collar of 0.2.
- F is 2 hits ÷ (true + predicted), which is 0 where only one of the two is there. In sed_eval it is NaN then, and a
  label of which nothing was found leaves the mean over labels. An error rate without truth is NaN, not 10¹⁵.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from temmed.errors import InputError
from temmed.metrics.functional.intervals import Intervals
from temmed.metrics.functional.pairing import agree, further_pairs, most_pairs, neighbours

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Decimals of a number of segments; what is beyond is rounding.
_DIGITS = 9


class Tally(NamedTuple):
    """Counts of events, or of active segments; each of one shape ``(...)``."""

    n_true: Floats
    n_predicted: Floats
    hits: Floats
    substitutions: Floats

    def total(self) -> Tally:
        """Summed over the last axis."""
        return Tally(*(counts.sum(axis=-1) for counts in self))


class Rates(NamedTuple):
    """Scores of counts; each of the shape of those."""

    f1: Floats
    precision: Floats
    recall: Floats
    error_rate: Floats


@dataclass(frozen=True)
class Counted:
    """What was counted.

    Attributes:
        sequences: the S sequences with a true or a predicted event.
        by_sequence: of shape ``(S,)``, over all labels.
        labels: the L labels of true or predicted events, sorted.
        by_label: of shape ``(L,)``, over all sequences; without substitutions, as one label has none.
    """

    sequences: NDArray[Any]
    by_sequence: Tally
    labels: NDArray[Any]
    by_label: Tally


def rates(tally: Tally) -> Rates:
    """F1, precision, recall and error rate, elementwise.

    The error rate is (substitutions + deletions + insertions) ÷ true events, and may exceed 1. What is true and not
    hit is substituted or deleted, what is predicted and no hit is substituted or inserted.

    Returns:
        NaN where nothing is counted that a score rests on.

    Examples:
        >>> [round(float(score), 3) for score in rates(Tally(*(np.array(n) for n in (4.0, 5.0, 3.0, 1.0))))]
        [0.667, 0.6, 0.75, 0.5]
    """
    true, predicted, hits, substituted = tally
    return Rates(
        _ratio(2 * hits, true + predicted),
        _ratio(hits, predicted),
        _ratio(hits, true),
        _ratio(true + predicted - 2 * hits - substituted, true),
    )


def event_based(
    truth: Intervals,
    predicted: Intervals,
    *,
    t_collar: float = 0.2,
    percentage_of_length: float = 0.5,
    onset: bool = True,
    offset: bool = True,
) -> Counted:
    """Count events found: as many pairs of one label as can be had, each event in one at most.

    A pair agrees if the onsets lie within ``t_collar`` of each other, and the offsets within ``t_collar`` or
    ``percentage_of_length`` of the true event's length, whichever is more. A substitution is a further pair that agrees
    but for its label.

    Args:
        truth: true events.
        predicted: predicted events.
        t_collar: tolerance, in the unit of the times.
        percentage_of_length: 0 to 1.
        onset: whether onsets must agree.
        offset: whether offsets must agree.

    Raises:
        InputError: neither end must agree, or a time is not finite.
    """
    if not (onset or offset):
        raise InputError("onset or offset to be compared", "neither", "event_based", "Set onset=True or offset=True.")
    true, given = _Events.of(truth, "truth"), _Events.of(predicted, "predicted")
    sequences, sequence, given_sequence = _joint_codes(truth.sequence, predicted.sequence)
    labels, label, given_label = _joint_codes(truth.label, predicted.label)
    collar = np.full(true.onset.shape, t_collar)
    limits = (collar, np.maximum(collar, percentage_of_length * (true.offset - true.onset)))
    ends = ((true.onset, given.onset), (true.offset, given.offset))
    compared = [end for end, wanted in enumerate((onset, offset)) if wanted]
    row, column = neighbours(sequence, given_sequence, *ends[compared[0]], limits[compared[0]])
    for end in compared[1:]:
        agrees = agree(ends[end][0][row], ends[end][1][column], limits[end][row])
        row, column = row[agrees], column[agrees]
    same = label[row] == given_label[column]

    hit = most_pairs(row[same], column[same], len(label), len(given_label))
    substitutions = np.zeros(len(sequences))
    if not same.all():
        extra_row, extra = further_pairs(row, column, same, len(label), len(given_label))
        substitutions = _count(sequence[extra_row], len(sequences), extra)

    def tally(codes: Ints, given_codes: Ints, size: int, substituted: Floats) -> Tally:
        return Tally(_count(codes, size), _count(given_codes, size), _count(codes[hit], size), substituted)

    return Counted(
        sequences,
        tally(sequence, given_sequence, len(sequences), substitutions),
        labels,
        tally(label, given_label, len(labels), np.zeros(len(labels))),
    )


def segment_based(truth: Intervals, predicted: Intervals, *, time_resolution: float = 1.0) -> Counted:
    """Count segments ``[k r, (k + 1) r)`` in which labels are active.

    A label is active in all segments that an event of it touches. Where in one segment some labels are missed and
    others falsely active, as many as can be are substitutions.

    Args:
        truth: true events, from time 0 of each sequence on.
        predicted: predicted events.
        time_resolution: length r of a segment in the unit of the times.

    Raises:
        InputError: a time is not finite or lies before 0, or the resolution is not above 0.
    """
    both = [_Events.of(truth, "truth"), _Events.of(predicted, "predicted")]
    onset, offset = (np.concatenate([getattr(events, end) for events in both]) for end in ("onset", "offset"))
    if (onset < 0).any() or not time_resolution > 0:
        found = f"an onset of {onset.min():g}" if time_resolution > 0 else f"a resolution of {time_resolution:g}"
        raise InputError("times from 0 on and a resolution above 0", found, "segment_based", "Shift the times.")
    start = np.floor((onset / time_resolution).round(_DIGITS)).astype(np.int64)
    stop = np.maximum(np.ceil((offset / time_resolution).round(_DIGITS)).astype(np.int64), start + 1)
    sequences, *sequence = _joint_codes(truth.sequence, predicted.sequence)
    labels, *label = _joint_codes(truth.label, predicted.label)

    # Each sequence has as many cells as segments, and each label that occurs in it a row of them.
    of_sequence = np.concatenate(sequence)
    segments = np.zeros(len(sequences), dtype=np.int64)
    np.maximum.at(segments, of_sequence, stop)
    pairs, pair = np.unique(of_sequence * max(len(labels), 1) + np.concatenate(label), return_inverse=True)
    pair_sequence, pair_label = np.divmod(pairs, max(len(labels), 1))
    width = segments[pair_sequence]
    begin = np.cumsum(width) - width
    split = len(sequence[0])
    active = [
        _active(begin[pair[part]] + start[part], begin[pair[part]] + stop[part], int(width.sum()))
        for part in (slice(None, split), slice(split, None))
    ]
    columns = np.stack([active[0], active[1], active[0] & active[1]], axis=1).astype(float)
    cell_pair = np.repeat(np.arange(len(pairs)), width)
    within = np.arange(len(cell_pair)) - begin[cell_pair]
    cell = (np.cumsum(segments) - segments)[pair_sequence[cell_pair]] + within
    per_segment = [_count(cell, int(segments.sum()), column) for column in columns.T]
    segment_sequence = np.repeat(np.arange(len(sequences)), segments)
    counted = [_count(segment_sequence, len(sequences), values) for values in per_segment]
    swapped = np.minimum(per_segment[0], per_segment[1]) - per_segment[2]
    by_label = [_count(pair_label[cell_pair], len(labels), column) for column in columns.T]
    return Counted(
        sequences,
        Tally(counted[0], counted[1], counted[2], _count(segment_sequence, len(sequences), swapped)),
        labels,
        Tally(by_label[0], by_label[1], by_label[2], np.zeros(len(labels))),
    )


class _Events(NamedTuple):
    onset: Floats
    offset: Floats

    @classmethod
    def of(cls, intervals: Intervals, name: str) -> _Events:
        onset, offset = np.asarray(intervals.onset, dtype=float), np.asarray(intervals.offset, dtype=float)
        wrong = np.flatnonzero(~np.isfinite(onset) | ~np.isfinite(offset))
        if len(wrong):
            found = f"{onset[wrong[0]]:g} to {offset[wrong[0]]:g}"
            remedy = "Leave out events that never happen, and clip open ones at the last time."
            raise InputError("finite times", found, f"{name}, row {wrong[0]}", remedy)
        return cls(onset, offset)


def _joint_codes(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], Ints, Ints]:
    first, second = np.asarray(truth), np.asarray(predicted)
    # An empty array is one of floats, whatever the other holds.
    parts = [part for part in (first, second) if len(part)]
    if not parts:
        return first, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    codes, names = pd.factorize(np.concatenate(parts), sort=True)
    return np.asarray(names), codes[: len(first)].astype(np.int64), codes[len(first) :].astype(np.int64)


def _active(start: Ints, stop: Ints, cells: int) -> NDArray[np.bool_]:
    steps = np.bincount(start, minlength=cells + 1) - np.bincount(stop, minlength=cells + 1)
    return np.cumsum(steps[:cells]) > 0


def _count(codes: Ints, size: int, weights: Floats | None = None) -> Floats:
    return np.bincount(codes, weights=weights, minlength=size).astype(float)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    empty = denominator == 0
    return np.where(empty, np.nan, numerator / np.where(empty, 1.0, denominator))

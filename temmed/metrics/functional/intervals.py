"""Temporal overlap of predicted and true intervals whose bounds are known only within limits.

A truth is four numbers: onset ∈ (onset_lower, onset_upper] and offset ∈ (offset_lower, offset_upper]. An interval
that never happens has NaN onset and offset.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Bounds(NamedTuple):
    """Where the ends of true intervals lie; each of shape ``(...)``, in one time unit, NaN for never."""

    onset_lower: Floats
    onset_upper: Floats
    offset_lower: Floats
    offset_upper: Floats


class Intervals(NamedTuple):
    """Labelled intervals in sequences; each field of shape ``(n,)``, times in one unit per sequence."""

    sequence: ArrayLike
    label: ArrayLike
    onset: ArrayLike
    offset: ArrayLike


class TemporalIoU(NamedTuple):
    """IoU with the truth at its midpoints, nearest to the prediction, and farthest from it."""

    midpoint: Floats
    best: Floats
    worst: Floats


def interval_iou(onset: ArrayLike, offset: ArrayLike, other_onset: ArrayLike, other_offset: ArrayLike) -> Floats:
    """Intersection over union of intervals on the time line, elementwise.

    Never against never is 1, never against an interval 0. Two instants give 1 where they coincide, else 0.

    Examples:
        >>> interval_iou([0.0], [4.0], [2.0], [6.0]).round(4).tolist()
        [0.3333]
        >>> float(interval_iou(np.nan, np.nan, np.nan, np.nan))
        1.0
    """
    ends = (np.asarray(end, dtype=float) for end in (onset, offset, other_onset, other_offset))
    a0, a1, b0, b1 = np.broadcast_arrays(*ends)
    overlap = np.maximum(np.minimum(a1, b1) - np.maximum(a0, b0), 0.0)
    union = (a1 - a0) + (b1 - b0) - overlap
    instants = union == 0
    iou = np.where(instants, (a0 == b0).astype(float), overlap / np.where(instants, 1.0, union))
    never, other_never = np.isnan(a0), np.isnan(b0)
    result: Floats = np.where(never | other_never, (never & other_never).astype(float), iou)
    return result


def bound_distance(lower: ArrayLike, upper: ArrayLike, predicted: ArrayLike) -> Floats:
    """How far predicted moments lie outside the limits within which the true ones are known, elementwise.

    Args:
        lower: earliest that the true moment may be, of shape ``(...)``.
        upper: latest that it may be.
        predicted: predicted moments.

    Returns:
        Distance to the nearer limit in the unit of the times, 0 inside; NaN where one of the three is NaN.

    Examples:
        >>> bound_distance([0.0, 0.0, 0.0], [10.0, 10.0, 10.0], [4.0, 13.0, -2.0]).tolist()
        [0.0, 3.0, 2.0]
    """
    low, high, given = (np.asarray(values, dtype=float) for values in (lower, upper, predicted))
    distance: Floats = np.maximum(np.maximum(low - given, given - high), 0.0)
    return distance


def clip_bounds(bounds: Bounds, first: ArrayLike, last: ArrayLike) -> Bounds:
    """Censor truths at what was observed.

    An event that began before ``first`` starts there, one that outlasts the observation ends at ``last``. One whose
    onset lies after ``last`` has not happened yet, and one that was over by ``first`` does not happen any more: both
    are never.

    Args:
        bounds: of shape ``(...)``.
        first: time of the first observation.
        last: time of the last one.
    """
    low, high = np.asarray(first, dtype=float), np.asarray(last, dtype=float)
    # An instant known exactly has equal bounds, and may fall on the last observation.
    not_yet = (bounds.onset_lower >= high) & (bounds.onset_upper > high)
    over = (bounds.onset_lower < low) & (bounds.offset_upper <= low)
    return Bounds(*(np.where(not_yet | over, np.nan, np.clip(bound, low, high)) for bound in bounds))


def clip_interval(onset: ArrayLike, offset: ArrayLike, first: ArrayLike, last: ArrayLike) -> tuple[Floats, Floats]:
    """Censor predicted intervals in the same way; an onset without an offset lasts to the end."""
    low, high = np.asarray(first, dtype=float), np.asarray(last, dtype=float)
    start, end = np.asarray(onset, dtype=float), np.asarray(offset, dtype=float)
    end = np.where(np.isnan(end) & ~np.isnan(start), np.inf, end)
    outside = (start > high) | (end < low) | ((start < low) & (end == low))
    return np.where(outside, np.nan, np.clip(start, low, high)), np.where(outside, np.nan, np.clip(end, low, high))


def temporal_iou(bounds: Bounds, onset: ArrayLike, offset: ArrayLike) -> TemporalIoU:
    """Temporal IoU of predictions with uncertain truths, elementwise.

    Args:
        bounds: finite bounds of the truths, as `clip_bounds` returns them.
        onset: predicted onsets, NaN for never.
        offset: predicted offsets.

    Returns:
        IoU with the truth's midpoints; with the truth nearest to the prediction inside its bounds (tIoU⁺); and the
        least IoU over the corners of its bounds (tIoU⁻).
    """
    start, end = np.asarray(onset, dtype=float), np.asarray(offset, dtype=float)
    midpoint = interval_iou(
        (bounds.onset_lower + bounds.onset_upper) / 2, (bounds.offset_lower + bounds.offset_upper) / 2, start, end
    )
    never = np.isnan(start)
    nearest_onset = np.where(never, bounds.onset_lower, np.clip(start, bounds.onset_lower, bounds.onset_upper))
    nearest_offset = np.where(never, bounds.offset_lower, np.clip(end, bounds.offset_lower, bounds.offset_upper))
    best = interval_iou(nearest_onset, np.maximum(nearest_onset, nearest_offset), start, end)
    corners = [
        interval_iou(onset_bound, np.maximum(onset_bound, offset_bound), start, end)
        for onset_bound in (bounds.onset_lower, bounds.onset_upper)
        for offset_bound in (bounds.offset_lower, bounds.offset_upper)
    ]
    return TemporalIoU(midpoint, best, np.minimum.reduce(corners))

"""Predicted intervals against the events of a timeline."""

from __future__ import annotations

import numpy as np
import pandas as pd

from temmed.metrics.functional.intervals import (
    Bounds,
    bound_distance,
    clip_bounds,
    clip_interval,
    interval_iou,
    temporal_iou,
)
from temmed.timelines.folder import Timeline
from temmed.timelines.schema import TIME_UNITS
from temmed.timelines.splits import Split

_BOUNDS = ["onset_lower", "onset_upper", "offset_lower", "offset_upper"]
#: What a prediction loses beside one that overlaps as much and lies nearer: less than any overlap that matters.
_NEARER = 1e-9


def event_truths(timeline: Timeline, split: Split, subset: str) -> pd.DataFrame:
    """What happens in a subset's sequences at the positions that it owns.

    What a subset's first position shows happened since the one before, so that the time between the two is its own.
    Where it owns a sequence from the start there is none before, and time begins with the first position.

    Returns:
        Columns ``patient_id, sequence_id, label``, the four bounds (NaN for never), ``first`` and ``last`` (the limits
        of the subset's own time, at which events are censored), ``step`` (median time from one of its time points to
        the next) and ``time_unit``.
    """
    owned = split.sequences(subset)[["sequence_id", "patient_id", "first_asked", "last_asked"]]
    owned["before"] = (owned["first_asked"] - 1).clip(lower=0)
    times = timeline.table("timepoints")[["sequence_id", "position", "time"]]
    for name, position in (("first", "before"), ("last", "last_asked")):
        clock = times.rename(columns={"position": position, "time": name})
        owned = owned.merge(clock, on=["sequence_id", position], validate="one_to_one")
    owned = owned.merge(timeline.table("sequences")[["sequence_id", "time_unit"]], on="sequence_id")
    inside = times.merge(owned[["sequence_id", "before", "last_asked"]], on="sequence_id")
    inside = inside[inside["position"].between(inside["before"], inside["last_asked"])]
    gaps = inside.sort_values("position").groupby("sequence_id")["time"].diff()
    steps = gaps.groupby(inside["sequence_id"]).median()
    # A lone time point has no step, and nothing around it that one could measure.
    owned["step"] = owned["sequence_id"].map(steps).fillna(1.0)
    about = ["patient_id", "first", "last", "step", "time_unit"]
    truths = timeline.table("events").merge(owned[["sequence_id", *about]], on="sequence_id")
    censored = clip_bounds(_bounds(truths), truths["first"], truths["last"])
    truths[_BOUNDS] = np.stack(censored, axis=1)
    return truths[["sequence_id", "label", *_BOUNDS, *about]]


def judge_events(truths: pd.DataFrame, predicted: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match predicted intervals to true events of the same sequence and label.

    Within a sequence and label, truths and predictions are paired one to one so that their midpoint tIoU is greatest,
    and of equal overlaps the nearest. A truth without a partner was predicted never to happen.

    An instant overlaps nothing for long: it has no tIoU, and its partner has found it if both ends lie within a step
    of its bounds.

    Args:
        truths: from `event_truths`.
        predicted: rows of the prediction table ``events``.

    Returns:
        The truths with columns ``instant``, ``tiou``, ``tiou_best``, ``tiou_worst``, ``tiou_whole`` (of an interval
        over all of the subset's time), ``onset_error``, ``offset_error`` (distance from the bounds), ``onset_width``
        and ``offset_width`` (between them), in days, seconds or steps, for those with a partner; and the predicted
        intervals, clipped, with ``false_alarm``: 1 where one has found no event it was paired with, else 0.
    """
    observed = truths[["sequence_id", "patient_id", "first", "last", "step"]].drop_duplicates("sequence_id")
    given = predicted.merge(observed, on="sequence_id")
    onset, offset = clip_interval(given["onset"], given["offset"], given["first"], given["last"])
    given = given.assign(onset=onset, offset=offset)[~np.isnan(onset)].reset_index(drop=True)
    partner = _partners(truths, given)
    has_partner = partner >= 0
    matched = given[["onset", "offset"]].reindex(partner).to_numpy(dtype=float)
    matched[~has_partner] = np.nan
    bounds = _bounds(truths)
    overlap = temporal_iou(bounds, matched[:, 0], matched[:, 1])
    whole = temporal_iou(bounds, truths["first"], truths["last"])
    instant = is_instant(bounds)
    overlaps = {"tiou": overlap.midpoint, "tiou_best": overlap.best, "tiou_worst": overlap.worst}
    overlaps["tiou_whole"] = whole.midpoint
    errors, near = _end_errors(truths, matched)
    judged = truths.assign(
        instant=instant, **{name: np.where(instant, np.nan, values) for name, values in overlaps.items()}, **errors
    )
    hit = partner[has_partner & np.where(instant, near, overlap.best > 0)]
    return judged, given.assign(false_alarm=(~given.index.isin(hit)).astype(float))


def is_instant(bounds: Bounds) -> np.ndarray:
    """Whether the midpoints of onset and offset are one moment."""
    middle = bounds.onset_lower + bounds.onset_upper, bounds.offset_lower + bounds.offset_upper
    instant: np.ndarray = middle[0] == middle[1]
    return instant


def _end_errors(truths: pd.DataFrame, matched: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Errors and widths of both ends in the canonical unit, and whether both lie within a step of their bounds."""
    factor = truths["time_unit"].map({unit: scale for unit, (_, scale) in TIME_UNITS.items()}).to_numpy(dtype=float)
    near = np.ones(len(truths), dtype=bool)
    found = {}
    for end, given in zip(("onset", "offset"), matched.T, strict=True):
        lower, upper = (truths[f"{end}_{limit}"].to_numpy(dtype=float) for limit in ("lower", "upper"))
        error = bound_distance(lower, upper, given)
        near &= error <= truths["step"].to_numpy()
        found[f"{end}_error"] = error * factor
        found[f"{end}_width"] = np.where(np.isnan(error), np.nan, upper - lower) * factor
    return found, near


def _partners(truths: pd.DataFrame, given: pd.DataFrame) -> np.ndarray:
    """Row of ``given`` that belongs to each truth, -1 for none; events that never happen have no partner but a claim.

    A truth of "never" is paired too: an interval predicted for it is what makes it wrong.
    """
    from scipy.optimize import linear_sum_assignment

    partner = np.full(len(truths), -1, dtype=np.int64)
    candidates = given.groupby(["sequence_id", "label"]).indices
    every, onset, offset = _bounds(truths), given["onset"].to_numpy(), given["offset"].to_numpy()
    for key, rows in truths.groupby(["sequence_id", "label"]).indices.items():
        columns = candidates.get(key)
        if columns is None:
            continue
        if len(rows) == len(columns) == 1:
            partner[rows] = columns
            continue
        bounds = Bounds(*(bound[rows, None] for bound in every))
        claims = onset[None, columns], offset[None, columns]
        middle = (bounds.onset_lower + bounds.onset_upper) / 2, (bounds.offset_lower + bounds.offset_upper) / 2
        score = interval_iou(*middle, *claims) - _NEARER * _farness(bounds, *claims)
        left, right = linear_sum_assignment(score, maximize=True)
        partner[rows[left]] = columns[right]
    return partner


def _farness(bounds: Bounds, onset: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """How far each prediction lies from each truth, 0 to 1; 1 from one that never happens."""
    distance = bound_distance(bounds.onset_lower, bounds.onset_upper, onset)
    distance = distance + bound_distance(bounds.offset_lower, bounds.offset_upper, offset)
    return np.nan_to_num(distance / (1 + distance), nan=1.0)


def _bounds(frame: pd.DataFrame) -> Bounds:
    return Bounds(*(frame[name].to_numpy(dtype=float) for name in _BOUNDS))

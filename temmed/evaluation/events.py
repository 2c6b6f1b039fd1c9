"""Predicted intervals against the events of a timeline."""

from __future__ import annotations

import numpy as np
import pandas as pd

from temmed.metrics.functional.intervals import Bounds, clip_bounds, clip_interval, temporal_iou
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

_BOUNDS = ["onset_lower", "onset_upper", "offset_lower", "offset_upper"]


def event_truths(timeline: Timeline, split: Split, subset: str) -> pd.DataFrame:
    """What happens in a subset's sequences at the positions that it owns.

    What a subset's first position shows happened since the one before, so that the time between the two is its own.
    Where it owns a sequence from the start there is none before, and time begins with the first position.

    Returns:
        Columns ``patient_id, sequence_id, label``, the four bounds (NaN for never), ``first`` and ``last`` (the limits
        of the subset's own time, at which events are censored).
    """
    owned = split.sequences(subset)[["sequence_id", "patient_id", "first_asked", "last_asked"]]
    owned["before"] = (owned["first_asked"] - 1).clip(lower=0)
    times = timeline.table("timepoints")[["sequence_id", "position", "time"]]
    for name, position in (("first", "before"), ("last", "last_asked")):
        clock = times.rename(columns={"position": position, "time": name})
        owned = owned.merge(clock, on=["sequence_id", position], validate="one_to_one")
    truths = timeline.table("events").merge(owned[["sequence_id", "patient_id", "first", "last"]], on="sequence_id")
    censored = clip_bounds(_bounds(truths), truths["first"], truths["last"])
    truths[_BOUNDS] = np.stack(censored, axis=1)
    return truths[["patient_id", "sequence_id", "label", *_BOUNDS, "first", "last"]]


def judge_events(truths: pd.DataFrame, predicted: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match predicted intervals to true events of the same sequence and label.

    Within a sequence and label, truths and predictions are paired one to one so that their midpoint tIoU is greatest.
    A truth without a partner was predicted never to happen.

    Args:
        truths: from `event_truths`.
        predicted: rows of the prediction table ``events``.

    Returns:
        The truths with columns ``tiou``, ``tiou_best`` and ``tiou_worst``; and the predicted intervals with
        ``false_alarm``: 1 where one overlaps no event it was paired with, else 0.
    """
    observed = truths[["sequence_id", "patient_id", "first", "last"]].drop_duplicates("sequence_id")
    given = predicted.merge(observed, on="sequence_id")
    onset, offset = clip_interval(given["onset"], given["offset"], given["first"], given["last"])
    given = given.assign(onset=onset, offset=offset)[~np.isnan(onset)].reset_index(drop=True)
    partner = _partners(truths, given)
    has_partner = partner >= 0
    matched = given[["onset", "offset"]].reindex(partner).to_numpy(dtype=float)
    matched[~has_partner] = np.nan
    overlap = temporal_iou(_bounds(truths), matched[:, 0], matched[:, 1])
    judged = truths.assign(tiou=overlap.midpoint, tiou_best=overlap.best, tiou_worst=overlap.worst)
    hit = partner[has_partner & (overlap.best > 0)]
    return judged, given.assign(false_alarm=(~given.index.isin(hit)).astype(float))


def _partners(truths: pd.DataFrame, given: pd.DataFrame) -> np.ndarray:
    """Row of ``given`` that belongs to each truth, -1 for none; events that never happen have no partner but a claim.

    A truth of "never" is paired too: an interval predicted for it is what makes it wrong.
    """
    from scipy.optimize import linear_sum_assignment

    partner = np.full(len(truths), -1, dtype=np.int64)
    candidates = given.groupby(["sequence_id", "label"]).indices
    for key, rows in truths.groupby(["sequence_id", "label"]).indices.items():
        columns = candidates.get(key)
        if columns is None:
            continue
        if len(rows) == len(columns) == 1:
            partner[rows] = columns
            continue
        bounds = Bounds(*(bound[:, None] for bound in _bounds(truths.iloc[rows])))
        claims = given.iloc[columns]
        score = temporal_iou(bounds, claims["onset"].to_numpy()[None], claims["offset"].to_numpy()[None]).midpoint
        left, right = linear_sum_assignment(score, maximize=True)
        partner[rows[left]] = columns[right]
    return partner


def _bounds(frame: pd.DataFrame) -> Bounds:
    return Bounds(*(frame[name].to_numpy(dtype=float) for name in _BOUNDS))

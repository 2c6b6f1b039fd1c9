"""Rules on the order of time points: every sequence must have one that can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from temmed.timelines.audit import Audit, Finding, View, found_rows, rule
from temmed.timelines.schema import TIME_UNITS

#: Longest life, in days: a longer span is in another unit than the table says.
_LIFE = 125 * 365.25
#: Longest loop, in seconds, for the same reason.
_LOOP = 24 * 3600.0
#: Days, and seconds, in one unit, for the units that count in them.
DAYS = {unit: factor for unit, (canonical, factor) in TIME_UNITS.items() if canonical == "day"}
_SECONDS = {unit: factor for unit, (canonical, factor) in TIME_UNITS.items() if canonical == "second"}
#: What is not too long in any unit.
_NEVER_LONG = min(0.99 * _LIFE / max(DAYS.values()), 0.99 * _LOOP / max(_SECONDS.values()))
#: Time points of a sequence that a picture shows around the one at fault.
_SHOWN = 6


def place(row: Any) -> str:
    """A time point in words."""
    return f"{row.sequence_id}, position {row.position}"


def around(audit: Audit) -> Any:
    """A view of a row's time point among its neighbours."""

    def view(row: Any, caption: str) -> View:
        last = int(audit.timeline.table("timepoints")["sequence_id"].eq(row.sequence_id).sum())
        start = max(0, min(int(row.position) - _SHOWN // 2, last - _SHOWN))
        shown = range(start, min(last, start + _SHOWN))
        frames = tuple((row.sequence_id, position) for position in shown)
        return View(caption, frames, tuple(index for index, at in enumerate(shown) if at == row.position))

    return view


def units(audit: Audit) -> pd.Series:
    """The time unit of each sequence."""
    return audit.timeline.table("sequences").drop_duplicates("sequence_id").set_index("sequence_id")["time_unit"]


def _with_neighbour(timepoints: pd.DataFrame, column: str, periods: int) -> pd.Series:
    """The value of another time point of the same sequence; the table is sorted by sequence and position."""
    same = timepoints["sequence_id"].eq(timepoints["sequence_id"].shift(periods)).fillna(False).astype(bool)
    return timepoints[column].shift(periods).where(same)


def _reversed_sequences(timepoints: pd.DataFrame) -> pd.Series:
    """Sequences all of whose steps go back."""
    step = timepoints["time"] - _with_neighbour(timepoints, "time", 1)
    steps = pd.DataFrame({"sequence_id": timepoints["sequence_id"], "back": step < 0, "step": step.notna()})
    counts = steps[steps["sequence_id"].isin(steps.loc[steps["back"], "sequence_id"])].groupby("sequence_id").sum()
    return counts.index[counts["back"] == counts["step"]].to_series()


@rule
def order(audit: Audit) -> Iterator[Finding]:
    """Time must not run backwards along positions."""
    timepoints = audit.timeline.table("timepoints")
    back = timepoints[timepoints["time"] < _with_neighbour(timepoints, "time", 1)]
    back = back[~back["sequence_id"].isin(_reversed_sequences(timepoints))]
    message = "time goes back along the positions: a model would learn change with its sign reversed"
    yield from found_rows("order", "error", message, back, place, around(audit))


@rule
def reversed_sequence(audit: Audit) -> Iterator[Finding]:
    """A whole sequence from last to first, as when files were sorted the other way round or by an id."""
    timepoints = audit.timeline.table("timepoints")
    first = timepoints[timepoints["position"].eq(0).fillna(False)]
    first = first[first["sequence_id"].isin(_reversed_sequences(timepoints))]
    message = "every step of the sequence goes back in time: it is stored from last to first"
    yield from found_rows("reversed_sequence", "error", message, first, lambda row: str(row.sequence_id), around(audit))


@rule
def ties(audit: Audit) -> Iterator[Finding]:
    """Two time points at the same time have no order."""
    timepoints = audit.timeline.table("timepoints")
    tied = timepoints[timepoints["time"] == _with_neighbour(timepoints, "time", 1)]
    unordered = tied["sequence_id"].map(units(audit)).isin(["frame", "ordinal"])
    message = "two positions have the same order number, so that their order is unknown"
    yield from found_rows("ties", "error", message, tied[unordered], place, around(audit))
    message = "two positions have the same time, so that their order rests on the file alone"
    yield from found_rows("ties", "warning", message, tied[~unordered], place, around(audit))


@rule
def missing_time(audit: Audit) -> Iterator[Finding]:
    """Every time point needs a time."""
    timepoints = audit.timeline.table("timepoints")
    message = "the time is missing: give it, or set the sequence's time_unit to ordinal"
    yield from found_rows("missing_time", "error", message, timepoints[timepoints["time"].isna()], place)


@rule
def time_origin(audit: Audit) -> Iterator[Finding]:
    """Times count from the sequence's first time point."""
    timepoints = audit.timeline.table("timepoints")
    late = timepoints[((timepoints["position"] == 0) & (timepoints["time"] > 0)).fillna(False)]
    late = late[~late["sequence_id"].isin(_reversed_sequences(timepoints))]
    message = "the first time is not 0: times count from the first time point, and clock_offset holds the rest"
    yield from found_rows("time_origin", "warning", message, late, place)


@rule
def uncertain_order(audit: Audit) -> Iterator[Finding]:
    """Bounds of two time points that overlap leave their order open."""
    timepoints = audit.timeline.table("timepoints")
    lower = timepoints["time_lower"].fillna(timepoints["time"])
    before = timepoints["time_upper"].fillna(timepoints["time"])
    before = _with_neighbour(timepoints.assign(before=before), "before", 1)
    # Without bounds, or with times that go back, other rules tell.
    forward = timepoints["time"] > _with_neighbour(timepoints, "time", 1)
    message = "time_lower lies before time_upper of the position before: the two may have been the other way round"
    open_order = timepoints[(lower < before) & forward]
    yield from found_rows("uncertain_order", "warning", message, open_order, place, around(audit))


@rule
def time_is_position(audit: Audit) -> Iterator[Finding]:
    """Days or seconds that are 0, 1, 2, … in every sequence were counted and not measured."""
    timepoints = audit.timeline.table("timepoints")
    named = units(audit)
    counted = named.isin(["day", "second", "millisecond"])
    rows = timepoints[timepoints["sequence_id"].map(counted).eq(True).to_numpy(bool)]
    same = rows["time"].eq(rows["position"].astype("float64"))
    each = pd.DataFrame({"sequence_id": rows["sequence_id"], "same": same})
    each = each.groupby("sequence_id")["same"].agg(["all", "size"]).reset_index()
    each = each[each["size"] >= 3]
    if len(each) and each["all"].mean() > 0.9:
        message = (
            "times are 0, 1, 2, … like the positions: if they were not measured, the time_unit is ordinal or frame"
        )
        found = each[each["all"]]
        yield from found_rows("time_is_position", "warning", message, found, lambda row: str(row.sequence_id))


@rule
def time_scale(audit: Audit) -> Iterator[Finding]:
    """A sequence longer than a life, or a loop longer than a day, has another unit."""
    timepoints = audit.timeline.table("timepoints")
    timepoints = timepoints[timepoints["time"].abs() > _NEVER_LONG]
    times = timepoints["time"].abs()
    unit = timepoints["sequence_id"].map(units(audit))
    long = (times * unit.map(DAYS).astype("float64") > _LIFE) | (times * unit.map(_SECONDS).astype("float64") > _LOOP)
    each = timepoints[long & np.isfinite(times)].drop_duplicates("sequence_id")
    message = "the sequence is longer than a life, or the loop longer than a day: the time_unit may be wrong"
    yield from found_rows("time_scale", "warning", message, each, lambda row: f"{row.sequence_id}: time {row.time:g}")

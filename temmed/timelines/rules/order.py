"""Rules on time: every sequence must have an order that can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from temmed.timelines.audit import Audit, Finding, found, rule

#: Days in one unit, for the units in which a report's date can be compared with a visit's.
_DAYS = {"day": 1.0, "week": 7.0}
#: Reports are often dated to the day while images carry the hour.
_TOLERANCE_DAYS = 1.0


def _places(rows: pd.DataFrame) -> list[str]:
    pairs = zip(rows["sequence_id"], rows["position"], strict=True)
    return [f"{sequence}, position {position}" for sequence, position in pairs]


def _with_neighbour(timepoints: pd.DataFrame, periods: int) -> pd.Series:
    return timepoints.groupby("sequence_id", sort=False)["time"].shift(periods)


@rule
def order(audit: Audit) -> Iterator[Finding]:
    """Time must not run backwards along positions."""
    timepoints = audit.timeline.table("timepoints")
    back = timepoints[timepoints["time"] < _with_neighbour(timepoints, 1)]
    message = "time goes back along the positions: a model would learn change with its sign reversed"
    yield from found("order", "error", message, _places(back))


@rule
def ties(audit: Audit) -> Iterator[Finding]:
    """Two time points at the same time have no order."""
    timepoints = audit.timeline.table("timepoints")
    tied = timepoints[timepoints["time"] == _with_neighbour(timepoints, 1)]
    units = audit.timeline.table("sequences").drop_duplicates("sequence_id").set_index("sequence_id")["time_unit"]
    unordered = tied["sequence_id"].map(units).isin(["frame", "ordinal"])
    message = "two positions have the same order number, so that their order is unknown"
    yield from found("ties", "error", message, _places(tied[unordered]))
    message = "two positions have the same time, so that their order rests on the file alone"
    yield from found("ties", "warning", message, _places(tied[~unordered]))


@rule
def missing_time(audit: Audit) -> Iterator[Finding]:
    """Every time point needs a time."""
    timepoints = audit.timeline.table("timepoints")
    message = "the time is missing: give it, or set the sequence's time_unit to ordinal"
    yield from found("missing_time", "error", message, _places(timepoints[timepoints["time"].isna()]))


@rule
def time_origin(audit: Audit) -> Iterator[Finding]:
    """Times count from the sequence's first time point."""
    timepoints = audit.timeline.table("timepoints")
    late = timepoints[(timepoints["position"] == 0) & (timepoints["time"] > 0)]
    message = "the first time is not 0: times count from the first time point, and clock_offset holds the rest"
    yield from found("time_origin", "warning", message, _places(late))


@rule
def report_dates(audit: Audit) -> Iterator[Finding]:
    """A report is written after its images and before the next ones."""
    timepoints = audit.timeline.table("timepoints")
    sequences = audit.timeline.table("sequences").drop_duplicates("sequence_id").set_index("sequence_id")
    following = _with_neighbour(timepoints, -1)
    # Where time goes back, the next position says nothing about the reports; the order is told by its own rule.
    visits = timepoints.assign(following=following.where(following >= timepoints["time"]))
    visits = visits.rename(columns={"time": "visit"}).drop_duplicates(["sequence_id", "position"])
    reports = audit.timeline.table("reports").dropna(subset=["sequence_id", "position", "time"])
    reports = reports.merge(visits[["sequence_id", "position", "visit", "following"]], on=["sequence_id", "position"])
    days = reports["sequence_id"].map(sequences["time_unit"]).map(_DAYS).astype("float64")
    early = (reports["visit"] - reports["time"]) * days > _TOLERANCE_DAYS
    late = (reports["time"] - reports["following"]) * days > _TOLERANCE_DAYS
    cases = [
        f"{row.report_id}: dated {row.time:g}, images of {row.visit:g}" for row in reports[early | late].itertuples()
    ]
    message = "the report is dated before its images, or after the next ones: it may be about others"
    yield from found("report_dates", "error", message, cases)

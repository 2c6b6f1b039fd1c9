"""Rules on what else speaks of time: treatments, events, the patient's clock, dates of files and in paths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from temmed.timelines.audit import Audit, Finding, found_rows, rule
from temmed.timelines.rules.order import DAYS, around, place, units

_DATE = r"(?<!\d)((?:19|20)\d{2})[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)"
#: Header dates have no time of day, so that rounding alone may make two days of difference.
_TOLERANCE_DAYS = 2.0


@rule
def treatment_interval(audit: Audit) -> Iterator[Finding]:
    """A treatment stops after it starts."""
    treatments = audit.timeline.table("treatments")
    message = "the treatment stops before it starts"
    yield from found_rows(
        "treatment_interval",
        "error",
        message,
        treatments[treatments["stop"] < treatments["start"]],
        lambda row: f"{row.patient_id}, {row.name}: {row.start:g} to {row.stop:g}",
    )


@rule
def clock(audit: Audit) -> Iterator[Finding]:
    """Sequences of one patient can be put on one clock: all have an offset, or none has."""
    sequences = audit.timeline.table("sequences").dropna(subset=["patient_id"])
    visits = sequences[sequences["time_unit"].isin(list(DAYS))]
    given = visits.groupby("patient_id")["clock_offset"].agg(["count", "size"])
    mixed = given[(given["count"] > 0) & (given["count"] < given["size"])].reset_index()
    message = "some sequences of the patient have a clock_offset and some have none: they cannot be put on one clock"
    yield from found_rows("clock", "warning", message, mixed, lambda row: str(row.patient_id))
    treated = audit.timeline.table("treatments")["patient_id"]
    several = given[(given["count"] == 0) & (given["size"] > 1) & given.index.isin(treated)].reset_index()
    message = "the patient has treatments and several sequences without a clock_offset: what came first is unknown"
    yield from found_rows("clock", "warning", message, several, lambda row: str(row.patient_id))


@rule
def event_outside(audit: Audit) -> Iterator[Finding]:
    """What is seen in a sequence begins and ends within it."""
    events = _events(audit)
    late = (events["onset_upper"] > events["last"]) & np.isfinite(events["onset_upper"])
    early = (events["offset_lower"] < 0) & np.isfinite(events["offset_lower"])
    message = "the event begins after the last time point or ends before the first: no image can show it"
    yield from found_rows(
        "event_outside",
        "warning",
        message,
        events[late | early],
        lambda row: f"{row.event_id}: seen from {row.onset_upper:g} to {row.offset_lower:g}, last time {row.last:g}",
    )


def _events(audit: Audit) -> pd.DataFrame:
    last = audit.timeline.table("timepoints").groupby("sequence_id")["time"].max()
    events = audit.timeline.table("events")
    # Without events there is nothing to tell the type from.
    return events.assign(last=events["sequence_id"].map(last).astype("float64"))


@rule
def event_measured(audit: Audit) -> Iterator[Finding]:
    """A finding is not measured before its event can have begun, or after it must have ended."""
    timeline = audit.timeline
    events = timeline.table("events").dropna(subset=["finding_id", "onset_lower"]).drop_duplicates("finding_id")
    measured = timeline.table("measurements").merge(events, on="finding_id")
    measured = measured[(measured["value"] > 0) & measured["quantity"].isin(["longest_diameter", "volume"])]
    measured = measured.merge(audit.times, on=["sequence_id", "position"])
    outside = (measured["time"] <= measured["onset_lower"]) | (measured["time"] > measured["offset_upper"])
    message = "the finding is measured before its event begins or after it ended: one of the two is wrong"
    yield from found_rows(
        "event_measured",
        "error",
        message,
        measured[outside].drop_duplicates("event_id"),
        lambda row: f"{row.event_id}: measured at {row.time:g}, outside of ({row.onset_lower:g}, {row.offset_upper:g}]",
        around(audit),
    )


@rule
def header_date(audit: Audit) -> Iterator[Finding]:
    """Dates in image headers must tell the same order and the same intervals as the table of time points."""
    visits = _dated_visits(audit)
    back, apart = disagreeing(visits, visits["sequence_id"].map(units(audit)).map(DAYS).astype("float64"))
    message = "the date in the image's header is before that of the position before: the order is wrong"
    yield from found_rows("header_date", "error", message, back, lambda row: f"{place(row)}: {row.date}", around(audit))
    message = "the days between headers' dates are not the time between the positions"
    yield from found_rows("header_date", "warning", message, apart, lambda row: f"{place(row)}: {row.date}")


@rule
def header_clock(audit: Audit) -> Iterator[Finding]:
    """Dates in the headers of a patient's sequences must be as far apart as their clock offsets say."""
    sequences = audit.timeline.table("sequences").drop_duplicates("sequence_id")
    clocks = sequences.loc[sequences["time_unit"].isin(list(DAYS)), ["sequence_id", "patient_id", "clock_offset"]]
    visits = _dated_visits(audit).merge(clocks.dropna(), on="sequence_id")
    days = visits["sequence_id"].map(units(audit)).map(DAYS).astype("float64")
    visits = visits.assign(time=(visits["clock_offset"] + visits["time"]) * days)
    visits = visits.sort_values(["patient_id", "time"], kind="stable", ignore_index=True)
    # Within a sequence, `header_date` tells.
    other = visits["sequence_id"].ne(visits["sequence_id"].shift(1))
    wrong = pd.concat(disagreeing(visits, pd.Series(1.0, index=visits.index), by="patient_id"))
    message = "the days between headers' dates of two sequences of a patient are not those that clock_offset says"
    wrong = wrong[other.loc[wrong.index]]
    yield from found_rows("header_clock", "warning", message, wrong, lambda row: f"{place(row)}: {row.date}")


def _dated_visits(audit: Audit) -> pd.DataFrame:
    """``sequence_id, position, date, time, days`` of visits whose image says a date, in their order."""
    visits = audit.image_scan.images.dropna(subset=["date"]).drop_duplicates(["sequence_id", "position"])
    visits = visits[["sequence_id", "position", "date"]].merge(audit.times, on=["sequence_id", "position"])
    return visits.assign(days=_to_days(visits["date"])).sort_values(["sequence_id", "position"])


def _to_days(dates: pd.Series) -> pd.Series:
    parsed = pd.to_datetime(dates, format="%Y%m%d", errors="coerce")
    return (parsed - pd.Timestamp(1900, 1, 1)) / pd.Timedelta(days=1)


def disagreeing(
    visits: pd.DataFrame, days_per_unit: pd.Series, by: str = "sequence_id"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Dated visits that contradict their neighbour before.

    Args:
        visits: ``time, days`` and the column ``by``, sorted by that and in their order.
        days_per_unit: of each row's time; NaN for times that are no dates.
        by: whose visits are neighbours.

    Returns:
        Rows whose date goes back while time goes on; rows whose date is as many days from the neighbour's as their
        time is not.
    """
    same = visits[by].eq(visits[by].shift(1)).fillna(False).astype(bool)
    days = (visits["days"] - visits["days"].shift(1)).where(same)
    time = (visits["time"] - visits["time"].shift(1)).where(same)
    back = (days < 0) & (time > 0)
    passed = time * days_per_unit
    apart = ((days - passed).abs() > _TOLERANCE_DAYS + passed.abs() / 50) & ~back & (time > 0)
    return visits[back], visits[apart]


@rule
def path_order(audit: Audit) -> Iterator[Finding]:
    """Dates in file names are a hint at the order, and no more than that."""
    images = audit.timeline.table("images").dropna(subset=["path"]).drop_duplicates(["sequence_id", "path"])
    if not images["path"].str.contains(r"(?:19|20)\d{2}", regex=True).any():
        return
    parts = images["path"].str.extract(_DATE)
    dates = (parts[0] + parts[1] + parts[2]).astype("str")
    dated = images.assign(days=_to_days(dates)).dropna(subset=["days"]).sort_values(["sequence_id", "position"])
    same = dated["sequence_id"].eq(dated["sequence_id"].shift(1)).fillna(False).astype(bool)
    back = dated[same & (dated["days"] < dated["days"].shift(1))]
    message = "dates in the paths go back as positions grow; a hint only, as names are often not what they seem"
    yield from found_rows("path_order", "info", message, back, lambda row: f"{place(row)}: {row.path}", around(audit))

"""Rules on reports and statements: what a text says of time agrees with the tables."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pandas as pd

from temmed.timelines.audit import Audit, Finding, found_rows, rule
from temmed.timelines.rules.clock import disagreeing
from temmed.timelines.rules.order import DAYS, units

#: Reports are often dated to the day while images carry the hour.
_TOLERANCE_DAYS = 1.0
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = rf"(?:{'|'.join(_MONTHS)})[a-z]*"
#: A date whose day and month cannot be confused: 2021-03-04, 20210304, 4 March 2021, March 4, 2021.
_CERTAIN = (
    rf"(\d{{4}}-\d{{2}}-\d{{2}}|(?:19|20)\d{{6}}|\d{{1,2}} {_MONTH}\.?,? \d{{4}}|{_MONTH}\.? \d{{1,2}},? \d{{4}})(?!\d)"
)
#: Only a date that the text itself calls the examination's.
_EXAMINED = (
    rf"(?i)\b(?:(?:exam(?:ination)?|study|scan|imaging|acquisition) date|date of (?:the )?"
    rf"(?:exam(?:ination)?|study|scan|imaging|acquisition)|(?:exam(?:ination)?|study|scan) (?:of|from|dated))"
    rf"\s*[:=]?\s*{_CERTAIN}"
)
_COMPARED = (
    rf"(?i)\bcompar(?:ed|ison)\s*(?:to|with|:|is made (?:to|with))?(?: the)?(?: prior| previous| earlier)?"
    rf"(?: (?:exam(?:ination)?|study|scan|mri|ct|radiograph))?(?: of| from| dated)?\s*{_CERTAIN}"
)
_SINCE = (
    r"(?i)(\d+(?:\.\d+)?) (days?|weeks?) after (?:the )?(?:first|initial|baseline) "
    r"(?:exam(?:ination)?|study|scan|visit)"
)


@rule
def report_dates(audit: Audit) -> Iterator[Finding]:
    """A report is written after its images and before the next ones."""
    timepoints = audit.timeline.table("timepoints")
    reports = audit.timeline.table("reports").dropna(subset=["sequence_id", "position", "time"])
    if reports.empty:
        return
    following = timepoints.groupby("sequence_id", sort=False)["time"].shift(-1)
    # Where time goes back, the next position says nothing about the reports; the order is told by its own rule.
    visits = timepoints.assign(following=following.where(following >= timepoints["time"]))
    visits = visits.rename(columns={"time": "visit"}).drop_duplicates(["sequence_id", "position"])
    reports = reports.merge(visits[["sequence_id", "position", "visit", "following"]], on=["sequence_id", "position"])
    days = reports["sequence_id"].map(units(audit)).map(DAYS).astype("float64")
    early = (reports["visit"] - reports["time"]) * days > _TOLERANCE_DAYS
    late = (reports["time"] - reports["following"]) * days > _TOLERANCE_DAYS
    message = "the report is dated before its images, or after the next ones: it may be about others"
    yield from found_rows(
        "report_dates",
        "error",
        message,
        reports[early | late],
        lambda row: f"{row.report_id}: dated {row.time:g}, images of {row.visit:g}",
    )


@rule
def report_text_dates(audit: Audit) -> Iterator[Finding]:
    """Examination dates that reports state must tell the order and the intervals of the positions."""
    reports = _placed(audit, r"\d{4}")
    if reports.empty:
        return
    reports = reports.assign(date=reports["text"].str.extract(_EXAMINED)[0])
    dated = reports.dropna(subset=["date"]).drop_duplicates(["sequence_id", "position"])
    dated = dated.assign(days=dated["date"].map(_day).astype("float64")).dropna(subset=["days"])
    dated = dated.sort_values(["sequence_id", "position"])
    back, apart = disagreeing(dated, dated["sequence_id"].map(units(audit)).map(DAYS).astype("float64"))
    message = "the examination's date in the text is before that of the report before: the order is wrong"
    yield from found_rows("report_text_dates", "error", message, back, lambda row: f"{row.report_id}: {row.date}")
    message = "the days between the dates in the texts are not the time between the positions"
    yield from found_rows("report_text_dates", "warning", message, apart, lambda row: f"{row.report_id}: {row.date}")


@rule
def report_compares_with_future(audit: Audit) -> Iterator[Finding]:
    """The examination that a report compares with lies before the one it is about."""
    reports = audit.timeline.table("reports").dropna(subset=["text"])
    reports = reports[reports["text"].str.contains("(?i)compar", regex=True)]
    own, other = reports["text"].str.extract(_EXAMINED)[0], reports["text"].str.extract(_COMPARED)[0]
    reports = reports.assign(own=own, other=other).dropna(subset=["own", "other"])
    late = reports["other"].map(_day).astype("float64") > reports["own"].map(_day).astype("float64")
    message = "the report compares with an examination that is later than its own: the two may be swapped"
    yield from found_rows(
        "report_compares_with_future",
        "error",
        message,
        reports[late],
        lambda row: f"{row.report_id}: of {row.own}, compared with {row.other}",
    )


@rule
def report_elapsed(audit: Audit) -> Iterator[Finding]:
    """A report that says how long after the first examination it was must agree with its time point."""
    reports = _placed(audit, "(?i) after ")
    if reports.empty:
        return
    said = reports["text"].str.extract(_SINCE)
    # Also how far it may be off: in weeks, a text is rounded to the week.
    width = said[1].str.lower().str.rstrip("s").map(DAYS).astype("float64")
    days = said[0].astype("float64") * width
    now = reports["time"] * reports["sequence_id"].map(units(audit)).map(DAYS).astype("float64")
    reports = reports.assign(said=days, now=now)
    message = "the report says another time since the first examination than its time point has"
    yield from found_rows(
        "report_elapsed",
        "error",
        message,
        reports[(days - now).abs() > width],
        lambda row: f"{row.report_id}: {row.said:g} days, time point at {row.now:g}",
    )


def _placed(audit: Audit, pattern: str) -> pd.DataFrame:
    """Reports of a time point whose text holds a pattern, with its time. A short pattern is quick to look for."""
    reports = audit.timeline.table("reports").dropna(subset=["sequence_id", "position", "text"])
    reports = reports[reports["text"].str.contains(pattern, regex=True)]
    reports = reports[["report_id", "sequence_id", "position", "text"]]
    return reports.merge(audit.times, on=["sequence_id", "position"])


@cache
def _day(text: str) -> float:
    """A certain date as a number of days; NaN for one that no calendar has."""
    cleaned = text.lower().replace(",", " ").replace(".", " ").split()
    if len(cleaned) == 1:
        stamp = pd.to_datetime(cleaned[0].replace("-", ""), format="%Y%m%d", errors="coerce")
    else:
        month = next(_MONTHS.index(word[:3]) + 1 for word in cleaned if word[:3] in _MONTHS)
        day, year = (int(word) for word in cleaned if word.isdigit())
        stamp = pd.to_datetime(f"{year:04d}{month:02d}{day:02d}", format="%Y%m%d", errors="coerce")
    return float("nan") if pd.isna(stamp) else (stamp - pd.Timestamp(1900, 1, 1)) / pd.Timedelta(days=1)


@rule
def repeated_report(audit: Audit) -> Iterator[Finding]:
    """Two reports of one time point with the same text count twice."""
    reports = audit.timeline.table("reports").dropna(subset=["sequence_id", "position", "text"])
    again = reports[reports.duplicated(["sequence_id", "position", "kind", "text"])]
    message = "the time point has the same report twice"
    yield from found_rows("repeated_report", "warning", message, again, lambda row: str(row.report_id))


@rule
def statement_place(audit: Audit) -> Iterator[Finding]:
    """A statement taken from a report is at the report's time point."""
    reports = audit.timeline.table("reports").drop_duplicates("report_id")
    reports = reports[["report_id", "sequence_id", "position"]]
    statements = audit.timeline.table("statements").dropna(subset=["report_id"])
    statements = statements.merge(reports, on="report_id", suffixes=("", "_of_report"))
    elsewhere = statements["sequence_id"].ne(statements["sequence_id_of_report"])
    elsewhere |= statements["position"].ne(statements["position_of_report"]).fillna(False).astype(bool)
    elsewhere &= statements["sequence_id_of_report"].notna() & statements["position_of_report"].notna()
    message = "the statement's report is of another time point: it is judged against the wrong images"
    yield from found_rows(
        "statement_place",
        "error",
        message,
        statements[elsewhere],
        lambda row: f"{row.statement_id}: at {row.position}, {row.report_id} at {row.position_of_report}",
    )

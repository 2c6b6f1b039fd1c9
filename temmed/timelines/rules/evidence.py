"""Rules on evidence: what proves an answer is given, lies in the past, and can be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from temmed.timelines.audit import Audit, Finding, View, found_rows, rule
from temmed.timelines.likeness import normalised_texts

#: How far, as a share and at least in the time's own unit, a horizon in time may be off by rounding.
_ROUNDING, _LEAST = 0.01, 1e-6


def exploded(questions: pd.DataFrame) -> pd.DataFrame:
    """One row per question and evidence position, with the question's other columns."""
    given = questions["evidence"].explode().dropna().astype("int64")
    return questions.drop(columns="evidence").loc[given.index].assign(evidence=given.to_numpy())


def _has_evidence(questions: pd.DataFrame) -> pd.Series:
    given = questions["evidence"].explode().notna()
    return given.groupby(level=0).any().reindex(questions.index, fill_value=False)


def _view(row: Any, caption: str) -> View:
    shown = sorted({*range(int(row.asked_at) + 1), int(row.evidence)})[-6:]
    marked = tuple(place for place, at in enumerate(shown) if at == row.evidence)
    return View(caption, tuple((row.sequence_id, at) for at in shown), marked)


@rule
def evidence_after_question(audit: Audit) -> Iterator[Finding]:
    """Evidence must not lie in the future."""
    late = exploded(audit.timeline.table("questions"))
    late = late[(late["evidence"] > late["asked_at"]).fillna(False).astype(bool)]
    message = "the evidence lies after the question: a model would have to see the future"
    yield from found_rows(
        "evidence_after_question",
        "error",
        message,
        late.drop_duplicates("question_id"),
        lambda row: f"{row.question_id}: asked at {row.asked_at}, evidence at {row.evidence}",
        _view,
    )


@rule
def evidence_missing(audit: Audit) -> Iterator[Finding]:
    """An answer needs positions that prove it, unless the proof is that nothing is there."""
    questions = audit.timeline.table("questions")
    bare = questions[~_has_evidence(questions) & questions["evidence_kind"].ne("absence").fillna(True)]
    message = "no evidence is given: these questions have no horizon and take no part in scores of evidence"
    yield from found_rows("evidence_missing", "warning", message, bare, lambda row: str(row.question_id))


@rule
def evidence_of_absence(audit: Audit) -> Iterator[Finding]:
    """Where the proof is that nothing is there, no position can show it."""
    questions = audit.timeline.table("questions")
    odd = questions[_has_evidence(questions) & questions["evidence_kind"].eq("absence").fillna(False)]
    message = "evidence_kind is absence and evidence positions are given: one of the two is wrong"
    yield from found_rows(
        "evidence_of_absence", "error", message, odd, lambda row: f"{row.question_id}: {list(row.evidence)}"
    )


@rule
def evidence_without_image(audit: Audit) -> Iterator[Finding]:
    """Evidence must be something that can be looked at."""
    evidence = exploded(audit.timeline.table("questions"))
    seen = audit.timeline.table("images")[["sequence_id", "position"]].drop_duplicates()
    seen = seen.rename(columns={"position": "evidence"})
    merged = evidence.merge(seen, on=["sequence_id", "evidence"], how="left", indicator="_seen")
    blind = merged[(merged["_seen"] == "left_only") & merged["evidence_report_id"].isna()]
    message = "an evidence position has no image and no report proves the answer instead"
    yield from found_rows(
        "evidence_without_image",
        "warning",
        message,
        blind,
        lambda row: f"{row.question_id}: evidence at {row.evidence}",
    )


@rule
def evidence_report(audit: Audit) -> Iterator[Finding]:
    """The report that proves an answer is the patient's own and no later than the question."""
    questions = audit.timeline.table("questions").dropna(subset=["evidence_report_id"])
    reports = audit.timeline.table("reports").drop_duplicates("report_id")
    reports = reports.rename(columns={"report_id": "evidence_report_id"})
    owner = audit.timeline.table("sequences").drop_duplicates("sequence_id").set_index("sequence_id")["patient_id"]
    columns = ["evidence_report_id", "patient_id", "sequence_id", "position", "text"]
    merged = questions.merge(reports[columns], on="evidence_report_id", suffixes=("", "_of_report"))
    other = merged["patient_id"].ne(merged["sequence_id"].map(owner))
    message = "the evidence is a report of another patient"
    yield from found_rows(
        "evidence_report",
        "error",
        message,
        merged[other],
        lambda row: f"{row.question_id}: {row.evidence_report_id} is of {row.patient_id}",
    )
    same = merged["sequence_id"].eq(merged["sequence_id_of_report"])
    late = same & (merged["position"] > merged["asked_at"]).fillna(False).astype(bool)
    message = "the evidence is a report written after the question: a model would have to see the future"
    yield from found_rows(
        "evidence_report",
        "error",
        message,
        merged[late & ~other],
        lambda row: f"{row.question_id}: asked at {row.asked_at}, {row.evidence_report_id} at {row.position}",
    )
    told = merged.dropna(subset=["evidence_sentence", "text"])
    sentences, texts = normalised_texts(told["evidence_sentence"]), normalised_texts(told["text"])
    absent = [sentence not in text for sentence, text in zip(sentences, texts, strict=True)]
    message = "the evidence sentence is not in the report: no citation of it can be scored as right"
    yield from found_rows(
        "evidence_report",
        "warning",
        message,
        told[np.array(absent, bool)],
        lambda row: f"{row.question_id}: {row.evidence_sentence!r} is not in {row.evidence_report_id}",
    )


@rule
def horizon(audit: Audit) -> Iterator[Finding]:
    """The horizon written must be the one that follows from the evidence."""
    questions = audit.timeline.table("questions")
    first = exploded(questions)["evidence"].groupby(level=0).min().reindex(questions.index).astype("float64")
    steps = questions["asked_at"].astype("float64") - first
    # A difference with a missing side is missing, and compares as false.
    wrong = (questions["horizon_steps"].astype("float64") - steps).abs() > 0
    message = "horizon_steps is not asked_at minus the first evidence position: scores by horizon would be wrong"
    yield from found_rows(
        "horizon",
        "error",
        message,
        questions[wrong],
        lambda row: (
            f"{row.question_id}: horizon_steps {row.horizon_steps}, evidence {row.evidence}, asked at {row.asked_at}"
        ),
    )
    asked = questions.assign(first=first).dropna(subset=["horizon_time", "first", "asked_at"])
    asked = asked.astype({"first": "int64", "asked_at": "int64"})
    for column in ("first", "asked_at"):
        known = audit.times.astype({"position": "float64"}).rename(
            columns={"position": column, "time": f"{column}_time"}
        )
        asked = asked.merge(known, on=["sequence_id", column])
    asked = asked.assign(passed=asked["asked_at_time"] - asked["first_time"])
    off = (asked["horizon_time"] - asked["passed"]).abs() > np.maximum(asked["passed"].abs() * _ROUNDING, _LEAST)
    message = "horizon_time is not the time from the first evidence position to the question"
    yield from found_rows(
        "horizon",
        "warning",
        message,
        asked[off],
        lambda row: f"{row.question_id}: horizon_time {row.horizon_time:g}, the time points say {row.passed:g}",
    )

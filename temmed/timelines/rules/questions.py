"""Rules on questions: what is asked can be answered from what may be seen, and not by guessing."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from temmed.timelines.audit import Audit, Finding, found, rule
from temmed.timelines.schema import ABSENCE_BIN, horizon_bin

#: Questions from which the share of an answer is worth a look.
_LARGE = 30


def _evidence(questions: pd.DataFrame) -> pd.DataFrame:
    """One row per question and evidence position, with the question's other columns."""
    exploded = questions.explode("evidence").dropna(subset=["evidence"])
    return exploded.astype({"evidence": "int64"})


@rule
def evidence_after_question(audit: Audit) -> Iterator[Finding]:
    """Evidence must not lie in the future."""
    late = _evidence(audit.timeline.table("questions"))
    late = late[(late["evidence"] > late["asked_at"]).fillna(False).astype(bool)]
    message = "the evidence lies after the question: a model would have to see the future"
    cases = [
        f"{row.question_id}: asked at {row.asked_at}, evidence at {row.evidence}"
        for row in late.drop_duplicates("question_id").itertuples()
    ]
    yield from found("evidence_after_question", "error", message, cases)


@rule
def evidence_missing(audit: Audit) -> Iterator[Finding]:
    """An answer needs positions that prove it, unless the proof is that nothing is there."""
    questions = audit.timeline.table("questions")
    none = questions["evidence"].map(lambda positions: positions is None or len(positions) == 0).astype(bool)
    bare = questions[none & (questions["evidence_kind"] != "absence")]
    message = "no evidence is given: these questions have no horizon and take no part in scores of evidence"
    yield from found("evidence_missing", "warning", message, bare["question_id"].tolist())


@rule
def evidence_without_image(audit: Audit) -> Iterator[Finding]:
    """Evidence must be something that can be looked at."""
    evidence = _evidence(audit.timeline.table("questions"))
    seen = audit.timeline.table("images")[["sequence_id", "position"]].drop_duplicates()
    seen = seen.rename(columns={"position": "evidence"})
    merged = evidence.merge(seen, on=["sequence_id", "evidence"], how="left", indicator="_seen")
    blind = merged[(merged["_seen"] == "left_only") & merged["evidence_report_id"].isna()]
    message = "an evidence position has no image and no report proves the answer instead"
    cases = [f"{row.question_id}: evidence at {row.evidence}" for row in blind.itertuples()]
    yield from found("evidence_without_image", "warning", message, cases)


@rule
def horizon(audit: Audit) -> Iterator[Finding]:
    """The horizon written must be the one that follows from the evidence."""
    questions = audit.timeline.table("questions")
    first = _evidence(questions).groupby("question_id")["evidence"].min()
    steps = questions["asked_at"].astype("float64") - questions["question_id"].map(first).astype("float64")
    # A difference with a missing side is missing, and compares as false.
    wrong = (questions["horizon_steps"].astype("float64") - steps).abs() > 0
    cases = [
        f"{row.question_id}: horizon_steps {row.horizon_steps}, evidence {row.evidence}, asked at {row.asked_at}"
        for row in questions[wrong].itertuples()
    ]
    message = "horizon_steps is not asked_at minus the first evidence position: scores by horizon would be wrong"
    yield from found("horizon", "error", message, cases)


@rule
def balance(audit: Audit) -> Iterator[Finding]:
    """How far the most frequent answer gets, per template and per template and horizon."""
    questions = audit.timeline.table("questions").dropna(subset=["answer"])
    steps = questions["horizon_steps"].astype("float64")
    kinds = questions["evidence_kind"].fillna("positions")
    bins = [horizon_bin(step, kind) for step, kind in zip(steps, kinds, strict=True)]
    questions = questions.assign(bin=bins)
    rows = []
    for template, asked in questions.groupby("template"):
        rows.append(_majority(f"{template}, all horizons", asked["answer"]))
        # Where the evidence is absence the answer follows from the bin: only the template as a whole says something.
        by_bin = asked[asked["bin"] != ABSENCE_BIN].groupby("bin")
        rows += [_majority(f"{template}, horizon {label}", part["answer"]) for label, part in by_bin]
    rows.sort(reverse=True)
    message = "groups by template and horizon; the most frequent answer of the least balanced ones, large groups first"
    yield from found("balance", "info", message, [text for _, _, text in rows])


def _majority(group: str, answers: pd.Series) -> tuple[bool, float, str]:
    counts = answers.value_counts()
    share = counts.iloc[0] / len(answers)
    return len(answers) >= _LARGE, share, f"{group}: {counts.index[0]!r} is {share:.0%} of {len(answers):,} answers"

"""Rows of the questions and events tables, for importers and for the user's own files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from temmed.timelines.importers.plan import PlannedSequence

ABSENCE = "absence"
#: A prompt that says which time point to look at cannot be used to ask which one is the evidence.
_NAMES_POSITION = re.compile(r"\b(time ?points?|positions?|frames?|visits?|scans?|stud(y|ies))\s*#?\d", re.IGNORECASE)
_BOUNDS = ("onset_lower", "onset_upper", "offset_lower", "offset_upper")


def question_row(
    question_id: str,
    sequence: PlannedSequence,
    asked_at: int,
    *,
    task: str,
    template: str,
    prompt: str,
    choices: Sequence[str] | None = None,
    answer: str | None = None,
    value: float | None = None,
    evidence: Sequence[int] | None = None,
    names_position: bool | None = None,
    finding_id: str | None = None,
    evidence_report_id: str | None = None,
    evidence_sentence: str | None = None,
) -> dict[str, Any]:
    """A row of the questions table.

    Args:
        question_id: its id.
        sequence: what is asked about.
        asked_at: the position at which it is asked.
        task: progression, measurement, event, choice or another.
        template: the family of questions it belongs to; scores are given for each.
        prompt: the question.
        choices: the answers to choose from.
        answer: one of them.
        value: the true number, instead of or besides an answer.
        evidence: the positions that prove the answer, in order; empty where the proof is that nothing is there, and
            ``None`` where the source does not say.
        names_position: whether the prompt says which time points to look at; by default told from its words.
        finding_id: the finding it is about.
        evidence_report_id: the report that proves it.
        evidence_sentence: the sentence of that report.
    """
    first = evidence[0] if evidence else None
    return {
        "question_id": question_id,
        "sequence_id": sequence.sequence_id,
        "finding_id": finding_id,
        "task": task,
        "template": template,
        "prompt": prompt,
        "asked_at": asked_at,
        "choices": None if choices is None else list(choices),
        "answer": answer,
        "value": value,
        "evidence": None if evidence is None else list(evidence),
        "evidence_kind": None if evidence is None else "positions" if evidence else ABSENCE,
        "evidence_report_id": evidence_report_id,
        "evidence_sentence": evidence_sentence,
        "names_position": bool(_NAMES_POSITION.search(prompt)) if names_position is None else names_position,
        "horizon_steps": None if first is None else asked_at - first,
        "horizon_time": None if first is None else sequence.times[asked_at] - sequence.times[first],
    }


def event_row(
    event_id: str,
    sequence: PlannedSequence,
    label: str,
    seen: tuple[int, int] | None,
    finding_id: str | None = None,
) -> dict[str, Any]:
    """A row of the events table.

    Args:
        event_id: its id.
        sequence: where it happens.
        label: what it is.
        seen: the first and the last position at which it is on; ``None`` if it never happens. What is first seen at a
            position began after the one before.
        finding_id: the finding it is about.
    """
    bounds: tuple[float | None, ...] = (None,) * len(_BOUNDS)
    if seen is not None:
        first, last = seen
        times = [-math.inf, *sequence.times, math.inf]
        bounds = (times[first], times[first + 1], times[last + 1], times[last + 2])
    return {
        "event_id": event_id,
        "sequence_id": sequence.sequence_id,
        "finding_id": finding_id,
        "label": label,
        **dict(zip(_BOUNDS, bounds, strict=True)),
    }

"""The tables of a subset, regrouped by sequence: what a data set needs at hand to build an item quickly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.data.batch import IGNORE
from temmed.data.boxes import Box, finding_boxes
from temmed.data.fitted import Fitted, ValueScale
from temmed.data.report_targets import TargetReport, target_reports
from temmed.timelines.folder import Timeline
from temmed.timelines.schema import TIME_UNITS
from temmed.timelines.splits import Split
from temmed.timelines.tables import named_rows


@dataclass
class Question:
    """One question with its tokens.

    Attributes:
        identity: the question's id.
        task: progression, measurement, event or another.
        text: the prompt.
        prompt: token ids of the prompt.
        choices: token ids of each choice.
        asked_at: position.
        answer: index into the choices, −100 for none.
        truth: the answer in words, or ``None``.
        value: on the fitted scale, NaN for none.
        evidence: positions.
        finding: the number of the finding it is about, −1 for none or an unknown one.
    """

    identity: str
    task: str
    text: str
    prompt: list[int]
    choices: list[list[int]]
    asked_at: int
    answer: int
    truth: str | None
    value: float
    evidence: list[int]
    finding: int = -1


@dataclass
class Event:
    """One labelled interval: tokens of the label, target per position (1, 0, −100) and bounds in canonical time."""

    label: str
    tokens: list[int]
    targets: NDArray[np.int64]
    interval: tuple[float, float, float, float]


@dataclass
class Statement:
    """One sentence about a position, and whether the images bear it out."""

    identity: str
    tokens: list[int]
    position: int
    consistent: bool
    text: str = ""


@dataclass
class Record:
    """One sequence.

    Attributes:
        sequence_id: its id.
        spatial_dims: 2 or 3.
        times: canonical time of each position, ``(T,)``.
        imaged: whether a position has an image, ``(T,)``.
        questions: those the subset owns.
        events: all labelled intervals.
        statements: about positions of the subset.
        reports: (token ids, position) of each report.
        patient_id: whose it is.
        written: (token ids, position) of each report that is a target: those at positions of the subset.
        report_targets: reports in the vocabulary in which they are written, with those before them.
        boxes: of findings at positions of the subset.
        positions: what each is called in its sequence, ``(T,)``; counted from 0 by default. All other fields speak of
            indices into ``times``, which differ from it where positions are left out (`temmed.data.subsample`).
    """

    sequence_id: str
    spatial_dims: int
    times: NDArray[np.float64]
    imaged: NDArray[np.bool_]
    questions: list[Question] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    reports: list[tuple[list[int], int]] = field(default_factory=list)
    positions: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    patient_id: str = ""
    written: list[tuple[list[int], int]] = field(default_factory=list)
    report_targets: list[TargetReport] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Count the positions, unless they are given."""
        if not len(self.positions):
            self.positions = np.arange(len(self.times))


def build_records(
    timeline: Timeline,
    split: Split,
    subset: str,
    fitted: Fitted,
    needs_questions: bool = True,
    needs_reports: bool = True,
    needs_written: bool = False,
) -> list[Record]:
    """Regroup a subset's tables by sequence.

    Args:
        timeline: the data.
        split: who owns what.
        subset: ``train``, ``val`` or ``test``.
        fitted: vocabulary and scales.
        needs_questions: leave out sequences without a question.
        needs_reports: without them, reports are left out.
        needs_written: whether reports are targets.

    Returns:
        One record per sequence, in order of the sequence id. Positions after the subset's last are cut off, so
        nothing later can be input or label. Those before its first are input alone: their labels are another's.
    """
    encode = cache(fitted.tokenizer.encode)  # few texts, asked of many
    owned = split.sequences(subset)
    last = dict(zip(owned["sequence_id"], owned["last_asked"], strict=True))
    first = dict(zip(owned["sequence_id"], owned["first_asked"], strict=True))
    records: dict[str, Record] = {}
    times = {key: group["time"].to_numpy(float) for key, group in timeline.table("timepoints").groupby("sequence_id")}
    imaged = {key: group.to_numpy() for key, group in timeline.table("images").groupby("sequence_id")["position"]}
    for row in named_rows(timeline.table("sequences")):
        if row.sequence_id not in last:
            continue
        factor = TIME_UNITS[row.time_unit][1]
        clock = times.get(row.sequence_id, np.zeros(0))[: int(last[row.sequence_id]) + 1] * factor
        has_image = np.isin(np.arange(len(clock)), imaged.get(row.sequence_id, []))
        record = Record(row.sequence_id, int(row.spatial_dims), clock, has_image, patient_id=row.patient_id)
        records[row.sequence_id] = record
    asked = split.questions(timeline, subset)
    for question in named_rows(asked.assign(finding=pd.factorize(asked["finding_id"])[0])):
        records[question.sequence_id].questions.append(_question(question, encode, fitted.values))
    units = dict(timeline.table("sequences")[["sequence_id", "time_unit"]].itertuples(index=False, name=None))
    for event in named_rows(timeline.table("events")):
        if (found := records.get(event.sequence_id)) is not None:
            bounds = np.array([event.onset_lower, event.onset_upper, event.offset_lower, event.offset_upper], float)
            interval = censored(bounds * TIME_UNITS[units[event.sequence_id]][1], found.times)
            targets = event_targets(interval, found.times, found.imaged)
            targets[: int(first[event.sequence_id])] = IGNORE
            found.events.append(Event(event.label, encode(event.label), targets, tuple(interval)))
    for statement in named_rows(timeline.table("statements")):
        found = records.get(statement.sequence_id)
        if found is not None and first[statement.sequence_id] <= statement.position < len(found.times):
            verdict = int(statement.position), bool(statement.consistent), statement.text
            found.statements.append(Statement(statement.statement_id, encode(statement.text), *verdict))
    reports = timeline.table("reports").dropna(subset=["sequence_id", "position"])
    for report in named_rows(reports) if needs_reports or needs_written else ():
        found = records.get(report.sequence_id)
        if found is not None and report.position < len(found.times):
            told = encode(report.text), int(report.position)
            if needs_reports:
                found.reports.append(told)
            if needs_written and report.position >= first[report.sequence_id]:
                found.written.append(told)
    if fitted.reports is not None:
        for sequence, targets_of in target_reports(timeline, fitted.reports, first, last).items():
            records[sequence].report_targets = targets_of
    if fitted.boxes:
        for sequence, boxes in finding_boxes(timeline, encode, first, last).items():
            records[sequence].boxes = boxes
    kept = [record for record in records.values() if record.questions or not needs_questions]
    return sorted(kept, key=lambda record: record.sequence_id)


def _question(row: Any, encode: Callable[[str], list[int]], values: ValueScale) -> Question:
    choices = [] if row.choices is None or isinstance(row.choices, float) else list(row.choices)
    truth = row.answer if isinstance(row.answer, str) else None
    value = np.array([np.nan if pd.isna(row.value) else row.value], np.float64)
    evidence = row.evidence
    return Question(
        identity=row.question_id,
        task=row.task,
        text=row.prompt,
        prompt=encode(row.prompt),
        choices=[encode(choice) for choice in choices],
        asked_at=int(row.asked_at),
        answer=choices.index(truth) if truth in choices else IGNORE,
        truth=truth,
        value=float(values.forward(value)[0]),
        evidence=[] if evidence is None or isinstance(evidence, float) else [int(p) for p in evidence],
        finding=int(row.finding),
    )


def censored(interval: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bounds of an event as they are known at the last of ``times``; what comes later is open."""
    if not len(times):
        return np.full_like(interval, np.nan)
    lower, upper = np.minimum(interval[[0, 2]], times[-1]), interval[[1, 3]]
    upper = np.where(upper > times[-1], np.inf, upper)
    return np.stack([lower, upper], axis=1).ravel()


def event_targets(
    interval: NDArray[np.float64], times: NDArray[np.float64], imaged: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Whether an event is on at each position.

    Args:
        interval: onset_lower, onset_upper, offset_lower, offset_upper; all NaN for "never".
        times: of the positions, in the same unit.
        imaged: whether a position has an image.

    Returns:
        1 on, 0 off, −100 where the bounds leave it open or there is no image.
    """
    if np.isnan(interval).all():
        targets = np.zeros(len(times), np.int64)
    else:
        onset_lower, onset_upper, offset_lower, offset_upper = interval
        targets = np.full(len(times), IGNORE, np.int64)
        targets[(times <= onset_lower) | (times >= offset_upper)] = 0
        targets[(times >= onset_upper) & (times <= offset_lower)] = 1
    targets[~imaged] = IGNORE
    return targets

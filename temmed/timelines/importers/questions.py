"""Questions and events that the user writes about imported images, in two small CSV files.

Both name a sequence by its id, by the file it was made from, or by its patient; and a time point by its position, its
time or, for dated visits, its date. Every row that cannot be used is told in one message, before anything is copied.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from temmed.timelines.importers._csv import Row, RowError, check, convert, read_rows
from temmed.timelines.importers.plan import LENGTHS, Plan, PlannedSequence, folder_of, relative, slug
from temmed.timelines.importers.rows import ABSENCE, event_row, question_row
from temmed.timelines.problems import Problems
from temmed.wording import nearest

_NAMING = ("sequence", "file", "patient", "modality")
QUESTION_COLUMNS = (
    *_NAMING,
    "position",
    "time",
    "prompt",
    "choices",
    "answer",
    "value",
    "evidence",
    "finding",
    "task",
    "template",
    "names_position",
    "question",
)
EVENT_COLUMNS = (*_NAMING, "label", "onset", "offset", "onset_position", "offset_position", "finding", "event")
NEVER = "never"
_SEPARATOR = "|"
_VERDICTS = {"progressed", "stable", "regressed"}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WHOLE = re.compile(r"\d{1,9}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass
class Asked:
    """What the user's files hold, as rows of the dataset's tables.

    Attributes:
        questions: rows of the questions table.
        events: rows of the events table.
        findings: rows of the findings table, by their ids.
    """

    questions: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_asked(questions: Path | None, events: Path | None, plan: Plan, source: Path) -> Asked:
    """Turn the user's files into rows of the dataset's tables.

    Args:
        questions: the questions file, or ``None``.
        events: the events file, or ``None``.
        plan: the sequences found.
        source: the source they were found in.

    Raises:
        InputError: a file cannot be read, or some of its rows cannot be used; all of these are told.
    """
    if questions is None and events is None:
        return Asked()
    builder = _Builder(plan, source)
    problems = Problems()
    if questions is not None:
        builder.asked.questions = convert(questions, read_questions(questions), builder.question, problems)
    if events is not None:
        builder.asked.events = convert(events, read_events(events), builder.event, problems)
    check(problems, [file for file in (questions, events) if file is not None])
    return builder.asked


def read_questions(path: Path) -> list[dict[str, str]]:
    """The rows of a questions file, with its columns checked.

    Raises:
        InputError: it cannot be read, or has other columns.
    """
    return read_rows(path, QUESTION_COLUMNS, ("prompt",))


def read_events(path: Path) -> list[dict[str, str]]:
    """The rows of an events file, with its columns checked.

    Raises:
        InputError: it cannot be read, or has other columns.
    """
    return read_rows(path, EVENT_COLUMNS, ("label",))


class _Builder:
    """Builds table rows from the user's rows, knowing the sequences that they may name."""

    def __init__(self, plan: Plan, source: Path) -> None:
        self.asked = Asked()
        self._ids: set[str] = set()
        folder = folder_of(source)
        self._index: dict[str, dict[str, dict[str, PlannedSequence]]] = {"sequence": {}, "file": {}, "patient": {}}
        for sequence in plan.sequences:
            self._know("sequence", {sequence.sequence_id}, sequence)
            self._know("patient", {sequence.patient_id, plan.aliases.get(sequence.patient_id, "")}, sequence)
            for file in sequence.files:
                self._know("file", {relative(file, folder), file.name, str(file)}, sequence)

    def _know(self, column: str, names: set[str], sequence: PlannedSequence) -> None:
        for name in names:
            # Several files of one sequence may share a name.
            self._index[column].setdefault(name, {})[sequence.sequence_id] = sequence

    def question(self, row: Row, number: int) -> dict[str, Any]:
        """A row of the questions table."""
        sequence = self._sequence(row)
        asked_at = _time_point(row, sequence, "position", "time")
        if not row["prompt"]:
            raise RowError("prompt", "must not be empty", "nothing")
        choices = _choices(row)
        answer, value = _answer(row, choices), _value(row)
        if choices is None and value is None:
            raise RowError("choices, value", "choices with an answer, or a value, must be there", "neither")
        evidence = _evidence(row, asked_at)
        task = row.get("task") or ("measurement" if choices is None else "choice")
        if not row.get("task") and choices is not None and set(choices) == _VERDICTS:
            task = "progression"
        return question_row(
            self._own_id(row, "question", f"{sequence.sequence_id}_q{number}"),
            sequence,
            asked_at,
            task=task,
            template=row.get("template") or f"user_{task}",
            prompt=row["prompt"],
            choices=choices,
            answer=answer,
            value=value,
            evidence=evidence,
            names_position=_boolean(row, "names_position"),
            finding_id=self._finding(row, sequence),
        )

    def event(self, row: Row, number: int) -> dict[str, Any]:
        """A row of the events table."""
        sequence = self._sequence(row)
        if not row["label"]:
            raise RowError("label", "must not be empty", "nothing")
        seen: tuple[int, int] | None = None
        ends = [column for column in ("offset", "offset_position") if row.get(column)]
        if NEVER in (row.get("onset", "").lower(), row.get("onset_position", "").lower()):
            if ends:
                raise RowError(ends[0], "must be empty for an event that never happens", repr(row[ends[0]]))
        else:
            first = _time_point(row, sequence, "onset_position", "onset")
            last = _time_point(row, sequence, "offset_position", "offset") if ends else len(sequence.times) - 1
            if last < first:
                raise RowError(ends[0], "must not lie before the onset", repr(row[ends[0]]))
            seen = (first, last)
        event_id = self._own_id(row, "event", f"{sequence.sequence_id}_e{number}")
        return event_row(event_id, sequence, row["label"], seen, self._finding(row, sequence))

    def _sequence(self, row: Row) -> PlannedSequence:
        """The sequence that a row names."""
        column = next((name for name in self._index if row.get(name)), None)
        if column is None:
            raise RowError("sequence, file, patient", "one of them must name a sequence", "nothing")
        name, index = row[column], self._index[column]
        found = list(index.get(name, {}).values())
        if not found:
            raise RowError(column, f"must be one that is imported{_hint(name, index)}", repr(name))
        if row.get("modality"):
            modalities = sorted({sequence.modality for sequence in found})
            found = [sequence for sequence in found if sequence.modality == row["modality"]]
            if not found:
                raise RowError("modality", f"must be one of {', '.join(modalities)}", repr(row["modality"]))
        if len(found) > 1:
            names = ", ".join(sequence.sequence_id for sequence in found[:4])
            raise RowError(column, f"must name one sequence; use the column sequence with one of {names}", repr(name))
        return found[0]

    def _finding(self, row: Row, sequence: PlannedSequence) -> str | None:
        """The id of the finding that a row names; the finding is added to the table."""
        label = row.get("finding")
        if not label:
            return None
        finding_id = f"{sequence.sequence_id}_{slug(label, 'finding')}"
        self.asked.findings[finding_id] = {
            "finding_id": finding_id,
            "sequence_id": sequence.sequence_id,
            "label": label,
        }
        return finding_id

    def _own_id(self, row: Row, column: str, otherwise: str) -> str:
        given = row.get(column) or otherwise
        if (key := f"{column} {given}") in self._ids:
            raise RowError(column, "must be unique", repr(given))
        self._ids.add(key)
        return given


def _time_point(row: Row, sequence: PlannedSequence, by_position: str, by_time: str) -> int:
    """The position that a row names, by the one or the other column."""
    given = [column for column in (by_position, by_time) if row.get(column)]
    if len(given) != 1:
        found = "both" if given else "neither"
        raise RowError(f"{by_position}, {by_time}", "exactly one of them must be there", found)
    text = row[given[0]]
    if given[0] == by_position:
        return _position(text, by_position, len(sequence.times))
    return _at_date(text, by_time, sequence) if _DATE.fullmatch(text) else _at_time(text, by_time, sequence)


def _position(text: str, column: str, count: int) -> int:
    if not _WHOLE.fullmatch(text) or int(text) >= count:
        raise RowError(column, f"must be a whole number from 0 to {count - 1}", repr(text))
    return int(text)


def _at_time(text: str, column: str, sequence: PlannedSequence) -> int:
    """The time point nearest to a time, which must be nearer to it than half a step."""
    time, times = _number(text, column), sequence.times
    nearest = min(range(len(times)), key=lambda position: abs(times[position] - time))
    steps = [abs(times[other] - times[nearest]) for other in (nearest - 1, nearest + 1) if 0 <= other < len(times)]
    if abs(times[nearest] - time) > max(steps, default=0.0) / 2 + 1e-6:
        rule = f"must be a time from {times[0]:g} to {times[-1]:g} ({sequence.time_unit})"
        raise RowError(column, rule, repr(text))
    return nearest


def _at_date(text: str, column: str, sequence: PlannedSequence) -> int:
    if sequence.start is None:
        raise RowError(column, f"must be a time in the unit {sequence.time_unit}: no dates are known", repr(text))
    days = [(sequence.start + time * LENGTHS[sequence.time_unit]).date() for time in sequence.times]
    try:
        found = [position for position, day in enumerate(days) if day == date.fromisoformat(text)]
    except ValueError:
        found = []
    if len(found) != 1:
        rule = "must be the date of one time point" + ("; it is that of several" if found else "")
        raise RowError(column, rule, repr(text))
    return found[0]


def _number(text: str, column: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RowError(column, "must be a number", repr(text))
    return number


def _choices(row: Row) -> list[str] | None:
    if not row.get("choices"):
        return None
    choices = [choice.strip() for choice in row["choices"].split(_SEPARATOR)]
    if len(choices) < 2 or "" in choices or len(set(choices)) < len(choices):
        rule = f"must be two or more different texts with {_SEPARATOR} between them"
        raise RowError("choices", rule, repr(row["choices"]))
    return choices


def _answer(row: Row, choices: Sequence[str] | None) -> str | None:
    answer = row.get("answer", "")
    if choices is None:
        if answer:
            raise RowError("answer", "needs choices to be one of; a number goes into the column value", repr(answer))
        return None
    if answer not in choices:
        rule = f"must be one of {', '.join(choices)}{_hint(answer, choices)}"
        raise RowError("answer", rule, repr(answer) if answer else "nothing")
    return answer


def _hint(name: str, candidates: Iterable[str]) -> str:
    near = nearest(name, candidates)
    return "" if near is None else f"; did you mean {near}?"


def _value(row: Row) -> float | None:
    return _number(row["value"], "value") if row.get("value") else None


def _evidence(row: Row, asked_at: int) -> list[int] | None:
    """The positions that prove the answer, in order; none for an absence, ``None`` where the user does not say."""
    text = row.get("evidence", "")
    if not text:
        return None
    if text.lower() == ABSENCE:
        return []
    positions = set()
    for part in text.split(_SEPARATOR):
        cell = part.strip()
        if not _WHOLE.fullmatch(cell) or int(cell) > asked_at:
            rule = f"must be positions from 0 to {asked_at}, where the question is asked, or {ABSENCE}"
            raise RowError("evidence", rule, repr(text))
        positions.add(int(cell))
    return sorted(positions)


def _boolean(row: Mapping[str, str], column: str) -> bool | None:
    text = row.get(column, "").lower()
    if not text:
        return None
    if text not in _BOOLEANS:
        raise RowError(column, "must be true or false", repr(text))
    return _BOOLEANS[text]

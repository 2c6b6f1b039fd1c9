"""Fewer positions of a long sequence: every k-th, or runs of neighbours; times and numbers stay the real ones."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from temmed.data.records import Event, Question, Record, censored
from temmed.data.report_targets import shown_reports

Indices = NDArray[np.int64]


def strided(length: int, stride: int, asked_at: Collection[int] = ()) -> Indices:
    """Every ``stride``-th of ``length`` positions, and those asked at; what is evidence makes no difference.

    Examples:
        >>> strided(10, 4, [5, 9]).tolist()
        [0, 4, 5, 8, 9]
    """
    return np.union1d(np.arange(0, length, stride), np.array([*asked_at], np.int64))


def needed(question: Question) -> tuple[int, int]:
    """First and last position that a question needs; without evidence, as for "never", all up to the asked one."""
    needs = [*question.evidence, question.asked_at]
    return min(needs) if question.evidence else 0, max(needs)


def starts(kept: Indices, length: int, question: Question) -> range:
    """Where runs of ``length`` among the kept positions may start to span all that a question needs."""
    low, high = needed(question)
    earliest = int(np.searchsorted(kept, high)) - length + 1
    latest = int(np.searchsorted(kept, low, side="right")) - 1
    return range(max(earliest, 0), min(latest, len(kept) - length) + 1)


def fits_window(record: Record, kept: Indices, length: int) -> list[bool]:
    """For each question, whether some run of ``length`` kept positions spans all that it needs."""
    return [len(kept) <= length or len(starts(kept, length, question)) > 0 for question in record.questions]


def draw_window(record: Record, kept: Indices, length: int, rng: np.random.Generator) -> Indices:
    """A run of ``length`` consecutive kept positions.

    A question is drawn among those that fit into a run, then a start among those that show what it needs; where
    none fits, any start. Nothing is drawn, and all are returned, if there are no more than ``length``.
    """
    if len(kept) <= length:
        return kept
    fitting = [possible for question in record.questions if (possible := starts(kept, length, question))]
    possible = fitting[rng.integers(len(fitting))] if fitting else range(len(kept) - length + 1)
    start = possible[rng.integers(len(possible))]
    return kept[start : start + length]


def within(record: Record, kept: Indices) -> Record:
    """The record with those questions alone that the positions from the first to the last kept one suffice for."""

    def answerable(question: Question) -> bool:
        low, high = needed(question)
        return bool(kept[0] <= low and high <= kept[-1])

    return replace(record, questions=[question for question in record.questions if answerable(question)])


def shown(record: Record, kept: Indices, report_delay: int = 0) -> Record:
    """The record of the kept positions alone.

    Questions asked elsewhere are left out. Evidence is kept where all of it is shown, else the question has none:
    half of it would teach to point at the wrong place. Bounds of events stay the true ones, wherever between kept
    positions they lie; what comes after the last kept one is open.

    Args:
        record: the sequence.
        kept: indices of positions, in order, one at least.
        report_delay: 1 if a report may be read only after its own position, else 0.
    """
    if len(kept) == len(record.times):
        return record
    place = {int(position): index for index, position in enumerate(kept)}

    def moved(question: Question) -> Question:
        there = all(position in place for position in question.evidence)
        evidence = [place[position] for position in question.evidence] if there else []
        return replace(question, asked_at=place[question.asked_at], evidence=evidence)

    times = record.times[kept]

    def seen(event: Event) -> Event:
        first, second, third, fourth = censored(np.array(event.interval), times).tolist()
        return replace(event, targets=event.targets[kept], interval=(first, second, third, fourth))

    return replace(
        record,
        times=times,
        imaged=record.imaged[kept],
        positions=record.positions[kept],
        questions=[moved(question) for question in record.questions if question.asked_at in place],
        events=[seen(event) for event in record.events],
        statements=[
            replace(statement, position=place[statement.position])
            for statement in record.statements
            if statement.position in place
        ],
        written=[(tokens, place[position]) for tokens, position in record.written if position in place],
        report_targets=shown_reports(record.report_targets, kept),
        boxes=[replace(box, position=place[box.position]) for box in record.boxes if box.position in place],
        # Readable from the first kept position at which it might be read in the whole sequence.
        reports=[
            (tokens, int(np.searchsorted(kept, position + report_delay)) - report_delay)
            for tokens, position in record.reports
            if kept[0] <= position <= kept[-1]
        ],
    )

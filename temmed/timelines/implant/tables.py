"""Tables of a folder with implanted findings: what is known of the source, and the truth of what was put in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from temmed.timelines.folder import Timeline
from temmed.timelines.implant.images import Written
from temmed.timelines.implant.loops import describe_loop, draw_loop_questions
from temmed.timelines.implant.scene import Task, is_loop
from temmed.timelines.synthetic.courses import Course
from temmed.timelines.synthetic.modality import Rows
from temmed.timelines.synthetic.questions import draw_questions
from temmed.timelines.synthetic.rows import describe_visits, finding_id, sequence_id

#: What is asked of findings followed over visits.
KINDS = ("progression", "measurement", "event", "new_finding", "comparison")
_DESCRIBED = ("findings", "measurements", "treatments", "events", "reports", "statements")
#: Columns whose ids begin with the id of a sequence.
_IDS = ("sequence_id", "finding_id", "report_id", "event_id")


@dataclass(frozen=True)
class Done:
    """One sequence with its findings.

    Attributes:
        task: the sequence of the source.
        course: the truth.
        written: rows that name files and pixels.
        dims: spatial axes of its images.
        notes: what there is to say of it.
    """

    task: Task
    course: Course
    written: Written
    dims: int
    notes: tuple[str, ...]

    @property
    def keeps_time(self) -> bool:
        """Whether its positions are those of the source."""
        return tuple(self.course.times.tolist()) == self.task.times


def make_tables(timeline: Timeline, used: list[Done], seed: int, keep_reports: bool) -> dict[str, pd.DataFrame]:
    """All tables that have rows.

    Args:
        timeline: the source.
        used: the sequences with findings.
        seed: of the whole set.
        keep_reports: keep the reports of sequences that have the positions of the source.
    """
    names = {done.task.index: done.task.sequence_id for done in used}
    of = {done.task.sequence_id: done for done in used}
    sequences = timeline.table("sequences")
    sequences = sequences[sequences["sequence_id"].isin(of)]
    kept = [of[name] for name in sequences["sequence_id"]]
    owners = dict(zip(sequences["sequence_id"].astype("str"), sequences["patient_id"].astype("str"), strict=True))
    patients = timeline.table("patients")
    tables = {
        "patients": patients[patients["patient_id"].isin(owners.values())],
        "sequences": sequences.assign(
            time_unit=[done.course.time_unit for done in kept], spatial_dims=[done.dims for done in kept]
        ),
        "timepoints": _timepoints(timeline, used),
    }
    for name in ("images", "masks", "boxes"):
        tables[name] = pd.DataFrame([row for done in used for row in getattr(done.written, name)])
    rows: Rows = {name: [] for name in _DESCRIBED}
    for done in used:
        _describe(done.course, owners, names, seed, rows)
    tables |= {name: pd.DataFrame(content) for name, content in rows.items()}
    if keep_reports:
        parts = [tables["reports"], _own_reports(timeline, used, owners)]
        tables["reports"] = pd.concat(parts, ignore_index=True)
    tables["questions"] = _questions([done.course for done in used], seed, names)
    return {name: table for name, table in tables.items() if len(table)}


def _own_reports(timeline: Timeline, used: list[Done], owners: dict[str, str]) -> pd.DataFrame:
    """Reports of the source, under ids of their own."""
    own = timeline.table("reports")
    own = own[own["patient_id"].isin(owners.values())]
    same = [done.task.sequence_id for done in used if done.keeps_time]
    own = own[own["sequence_id"].isna() | own["sequence_id"].isin(same)]
    return own.assign(report_id="source-" + own["report_id"].astype("str"))


def _timepoints(timeline: Timeline, used: list[Done]) -> pd.DataFrame:
    """Time points of the source, and made-up ones of repeated images."""
    own = timeline.table("timepoints")
    same = [done.task.sequence_id for done in used if done.keeps_time]
    made = [
        {"sequence_id": done.task.sequence_id, "position": position, "time": time}
        for done in used
        if not done.keeps_time
        for position, time in enumerate(done.course.times.tolist())
    ]
    parts = [own[own["sequence_id"].isin(same)], pd.DataFrame(made)]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _describe(course: Course, owners: dict[str, str], names: dict[int, str], seed: int, rows: Rows) -> None:
    """Add what is known of a sequence, under the ids of the source."""
    own: Rows = {name: [] for name in _DESCRIBED}
    if is_loop(course.time_unit):
        describe_loop(course, seed, own)
    else:
        nothing = np.full((len(course.findings), len(course.times)), np.nan)
        describe_visits(course, nothing, seed, own)
    name = names[course.index]
    for table, content in own.items():
        for row in content:
            renamed = {key: _renamed(value, course.index, name) if key in _IDS else value for key, value in row.items()}
            if "patient_id" in renamed:
                renamed["patient_id"] = owners[name]
            if "statement_id" in renamed:
                renamed["statement_id"] = f"st{len(rows[table]):07d}"
            rows[table].append(renamed)


def _renamed(identity: Any, index: int, name: str) -> Any:
    """An id that begins with the number of a sequence, with the sequence's own id in its place."""
    return None if identity is None else name + str(identity).removeprefix(sequence_id(index))


def _questions(courses: list[Course], seed: int, names: dict[int, str]) -> pd.DataFrame:
    """Questions about visits and about loops, under the ids of the source."""
    loops = [course for course in courses if is_loop(course.time_unit)]
    visits = [course for course in courses if not is_loop(course.time_unit)]
    asked = [draw_questions(visits, seed, KINDS)] if visits else []
    asked += [draw_loop_questions(loops, seed)] if loops else []
    asked = [part for part in asked if len(part)] or asked[:1]
    table = pd.concat(asked, ignore_index=True)
    numbers = [None if number is None or number != number else int(number) for number in table["finding"]]
    table["question_id"] = [f"q{number:07d}" for number in range(len(table))]
    table["sequence_id"] = [names[index] for index in table["course"]]
    table["finding_id"] = [
        None if number is None else _renamed(finding_id(index, number), index, names[index])
        for index, number in zip(table["course"], numbers, strict=True)
    ]
    return table.drop(columns=["course", "finding"])

"""What is asked and told of findings in cine loops, frame by frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temmed.prompts.questions import NEVER, frame, render
from temmed.timelines.synthetic.asking import COLUMNS, UNIT_WORDS, question_row
from temmed.timelines.synthetic.courses import Course, patient_rng
from temmed.timelines.synthetic.loop_questions import PER_SEQUENCE, Subject, offered_moments, progression_rows
from temmed.timelines.synthetic.modality import Rows
from temmed.timelines.synthetic.reports import OPPOSITE, WORDS, sentence
from temmed.timelines.synthetic.rows import finding_rows, report_rows

#: Pairs of frames of a finding from which questions are chosen.
_PAIRS = 60
#: Frames that a question on appearance or disappearance looks back on, at least.
_LOOK_BACK = 3
#: Loop, number of the finding (``None`` for one that is never there), and the finding in words.
_Case = tuple[Course, int | None, str]


def draw_loop_questions(courses: list[Course], seed: int) -> pd.DataFrame:
    """All questions about loops.

    Args:
        courses: every loop of the set.
        seed: of the whole set.

    Returns:
        As of `temmed.timelines.synthetic.questions.draw_questions`.
    """
    rng = np.random.default_rng([seed, 2**31, 4])
    rows = _progression(courses, rng) + _measurement(courses, rng) + _events(courses, rng)
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["course", "asked_at", "task", "prompt"], kind="stable").reset_index(drop=True)


def _progression(courses: list[Course], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for number, course in enumerate(courses):
        totals = np.sum([finding.diameters for finding in course.findings], axis=0)
        for which, finding in enumerate(course.findings):
            seen = np.flatnonzero(course.imaged & (finding.diameters > 0))
            pairs = np.sort(rng.choice(seen, (_PAIRS, 2)), axis=1) if len(seen) else np.zeros((0, 2), int)
            for first, last in np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0).tolist():
                sizes = finding.diameters[[first, last]]
                gap = course.times[last] - course.times[first]
                rows.append((number, which, first, last, *sizes, totals[last] - sizes[1], gap))
    columns = ["course", "finding", "first", "last", "size_first", "size_last", "others", "gap"]
    table = pd.DataFrame(rows, columns=columns)

    def subject(row: Any) -> Subject:
        course, which = courses[row.course], int(row.finding)
        return course.index, course.times, which, course.findings[which].phrase

    return progression_rows(table, subject, len(courses), rng, coarse=True)


def _measurement(courses: list[Course], rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for course in courses:
        for _ in range(PER_SEQUENCE["measurement_pairs"]):
            which = int(rng.integers(len(course.findings)))
            finding = course.findings[which]
            seen = np.flatnonzero(course.imaged & (finding.diameters > 0))
            if len(seen) < 2:
                continue
            first, last = sorted(rng.choice(seen, 2, replace=False).tolist())
            sizes = finding.diameters[[first, last]]
            words = {"finding": finding.phrase, "first": frame(first), "last": frame(last)}
            for template, value, evidence in (
                ("measurement_prior", sizes[0], [first]),
                ("measurement_current", sizes[1], [last]),
                ("measurement_ratio", sizes[1] / sizes[0], [first, last]),
            ):
                rows.append(
                    question_row(
                        course.index,
                        course.times,
                        which,
                        task="measurement",
                        template=template,
                        prompt=render(template, 0, unit=UNIT_WORDS[course.unit], **words),
                        asked_at=last,
                        value=float(np.round(value, 3)),
                        evidence=evidence,
                        names_position=True,
                    )
                )
    return rows


def _moments(course: Course, which: int) -> tuple[int | None, int | None]:
    """First frame with a finding that comes, and first frame without one that goes."""
    imaged = np.flatnonzero(course.imaged)
    seen = imaged[course.findings[which].diameters[imaged] > 0]
    if not len(seen):
        return None, None
    after = imaged[imaged > seen[-1]]
    return (int(seen[0]) if seen[0] > imaged[0] else None), (int(after[0]) if len(after) else None)


def _sort(
    course: Course,
    template: str,
    frames: NDArray[np.int64],
    rng: np.random.Generator,
    happened: list[tuple[_Case, int, int]],
    never: list[tuple[_Case, int]],
) -> None:
    """Add each finding of a loop, with a frame to ask at, to what had happened by then or to what had not."""
    for which, finding in enumerate(course.findings):
        asked = int(rng.choice(frames[_LOOK_BACK:]))
        moment = _moments(course, which)[template == "event_disappear"]
        seen = (finding.diameters[frames[frames <= asked]] > 0).any()
        if moment is not None and moment <= asked:
            happened.append(((course, which, finding.phrase), asked, moment))
        elif seen if template == "event_disappear" else moment is not None:
            never.append(((course, which, finding.phrase), asked))
    for label, place in course.absent if template == "event_appear" else ():
        never.append(((course, None, f"{label} in the {place}"), int(rng.choice(frames[_LOOK_BACK:]))))


def _events(courses: list[Course], rng: np.random.Generator) -> list[dict[str, Any]]:
    """When did a finding appear, or disappear? The other frames offered are the answers of other findings."""
    found = []
    for template in ("event_appear", "event_disappear"):
        happened: list[tuple[_Case, int, int]] = []
        never: list[tuple[_Case, int]] = []
        for course in courses:
            frames = np.flatnonzero(course.imaged)
            if len(frames) > _LOOK_BACK:
                _sort(course, template, frames, rng, happened, never)
        wanted = PER_SEQUENCE["event"] * len(courses) // 2
        for (course, which_or_none, phrase), asked, truth, choices in offered_moments(happened, never, wanted, rng):
            found.append(
                question_row(
                    course.index,
                    course.times,
                    which_or_none,
                    task="event",
                    template=template,
                    # The other phrasing speaks of time points.
                    prompt=render(template, 1, finding=phrase),
                    asked_at=asked,
                    choices=choices,
                    answer=NEVER if truth is None else frame(truth),
                    evidence=[] if truth is None else [truth - 1, truth],
                    names_position=False,
                )
            )
    return found


def describe_loop(course: Course, seed: int, rows: Rows) -> None:
    """Add the findings, measurements, events, the report and statements of a loop.

    Args:
        course: the loop.
        seed: of the whole set.
        rows: by table; added to.
    """
    finding_rows(course, np.full((len(course.findings), len(course.times)), np.nan), rows)
    report_rows(course.index, course.times, _told(course, seed), rows)


def _told(course: Course, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The report on the whole loop, and statements on the frames where a finding comes or goes."""
    rng = patient_rng(seed, course.index, 3)
    frames = np.flatnonzero(course.imaged)
    last = int(frames[-1])
    text = [f"{course.plan.examination}, loop of {len(frames)} frames."]
    statements = []
    for number, finding in enumerate(course.findings):
        appears, disappears = _moments(course, number)
        if not (finding.diameters[frames] > 0).any():
            continue
        text.append(sentence(course, finding, float(finding.diameters[last]), "gone" if disappears else None))
        for moment, word in ((appears, "new"), (disappears, "gone")):
            if moment is None:
                continue
            name = "appears" if word == "new" else "disappears"
            text.append(f"The {finding.phrase} {name} at {frame(moment)}.")
            flipped = bool(rng.random() < 0.5)
            said = OPPOSITE[word] if flipped else word
            statements.append(
                {
                    "position": moment,
                    "finding": number,
                    "text": f"The {finding.phrase} {WORDS[said]}.",
                    "direction": said,
                    "location": finding.location,
                    "consistent": not flipped,
                    "flip": "direction" if flipped else None,
                }
            )
    return [{"position": last, "text": " ".join(text)}], statements

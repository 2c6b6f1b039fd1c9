"""Reports and statements written from the truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from temmed.prompts.questions import elapsed, time_point
from temmed.timelines.schema import PROGRESSION_BOUND, TIME_UNITS
from temmed.timelines.synthetic.courses import Course, Finding, patient_rng

WORDS = {
    "new": "is new",
    "larger": "is larger than before",
    "unchanged": "is unchanged",
    "smaller": "is smaller than before",
    "gone": "is no longer seen",
}
OPPOSITE = {"new": "gone", "gone": "new", "larger": "smaller", "smaller": "larger", "unchanged": "larger"}


def direction(before: float, now: float) -> str | None:
    """What a report says of a finding compared with the previous images: sizes in mm, 0 for absent."""
    if before <= 0 and now <= 0:
        return None
    if before <= 0:
        return "new"
    if now <= 0:
        return "gone"
    ratio = np.log(now / before)
    if ratio >= PROGRESSION_BOUND:
        return "larger"
    return "smaller" if ratio <= -PROGRESSION_BOUND else "unchanged"


def opening(course: Course, position: int) -> str:
    """The first sentence of a report: what was done, and when."""
    if TIME_UNITS[course.time_unit][0] == "step":
        return f"{course.plan.examination}, the one at {time_point(position)}."
    when = elapsed(course.times[position], course.time_unit)
    return f"{course.plan.examination}, {when} after the first examination."


def sentence(course: Course, finding: Finding, now: float, word: str | None) -> str:
    """What a report says of a finding.

    Args:
        course: the patient.
        finding: which.
        now: its size, 0 where it is absent.
        word: a `direction`; ``None`` in a first report.
    """
    size = f", {now:.0f} {course.unit} in {course.plan.kinds[finding.label].words}," if now > 0 else ""
    said = WORDS[word] if word else "is seen"
    return f"The {finding.phrase}{size} {said}."


def write_reports(course: Course, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One report per imaged visit, and statements that are true or contradicted by the images.

    Half of the statements are flipped: the direction of change is inverted, or the place is another one.

    Args:
        course: the patient.
        seed: of the whole set.

    Returns:
        Rows of ``reports``, with their ``position``, and of ``statements``; the finding is given as its number.
    """
    rng = patient_rng(seed, course.index, 3)
    imaged = np.flatnonzero(course.imaged)
    taken = {finding.location for finding in course.findings}
    reports: list[dict[str, Any]] = []
    statements: list[dict[str, Any]] = []
    for order, position in enumerate(imaged):
        before = imaged[order - 1] if order else None
        sentences = [opening(course, int(position))]
        for number, finding in enumerate(course.findings):
            now = float(finding.diameters[position])
            word = direction(float(finding.diameters[before]), now) if before is not None else None
            if now <= 0 and word is None:
                continue
            sentences.append(sentence(course, finding, now, word))
            if word is None:
                continue
            free = sorted(set(course.plan.places_of(finding.label)) - taken)
            flips = ["direction", "location"] if free else ["direction"]
            flip = str(rng.choice(flips)) if rng.random() < 0.5 else None
            place, said = finding.location, word
            if flip == "direction":
                said = OPPOSITE[word]
            elif flip == "location":
                place = str(rng.choice(free))
            statements.append(
                {
                    "position": int(position),
                    "finding": number,
                    "text": f"The {finding.label} in the {place} {WORDS[said]}.",
                    "direction": said,
                    "location": place,
                    "consistent": flip is None,
                    "flip": flip,
                }
            )
        if len(sentences) == 1:
            sentences.append("No focal finding.")
        started = course.treatment
        if started is not None and before is not None and course.times[before] < started <= course.times[position]:
            sentences.append("Therapy was started since the previous examination.")
        reports.append({"position": int(position), "text": " ".join(sentences)})
    return reports, statements

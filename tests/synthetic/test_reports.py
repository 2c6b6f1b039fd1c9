"""Reports and statements agree with the truth they are written from."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from temmed.timelines.folder import Timeline
from temmed.timelines.synthetic.courses import draw_course
from temmed.timelines.synthetic.reports import direction, write_reports

_SAID = {
    "new": "is new",
    "gone": "is no longer seen",
    "larger": "is larger than before",
    "smaller": "is smaller than before",
    "unchanged": "is unchanged",
}


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (0.0, 0.0, None),
        (0.0, 9.0, "new"),
        (9.0, 0.0, "gone"),
        (10.0, 12.5, "larger"),
        (10.0, 8.0, "smaller"),
        (10.0, 11.0, "unchanged"),
    ],
)
def test_direction(before: float, now: float, expected: str | None) -> None:
    assert direction(before, now) == expected


@pytest.mark.parametrize("index", range(40))
def test_reports_agree_with_the_truth(index: int) -> None:
    course = draw_course(0, index)
    reports = pd.DataFrame(write_reports(course, 0)[0])
    imaged = np.flatnonzero(course.imaged).tolist()
    assert reports["position"].tolist() == imaged
    for order, (position, text) in enumerate(zip(imaged, reports["text"], strict=True)):
        for finding in course.findings:
            now = float(finding.diameters[position])
            sentence = re.search(rf"The {finding.phrase}.*?\.", text)
            word = direction(float(finding.diameters[imaged[order - 1]]), now) if order else None
            if now <= 0 and word is None:
                assert sentence is None
                continue
            assert sentence is not None
            assert (_SAID[word] if word else "is seen") in sentence.group()
            assert (f"{now:.0f} mm" in sentence.group()) == (now > 0)


def test_statements_are_flipped_exactly_where_they_are_inconsistent() -> None:
    flips = []
    for index in range(150):
        course = draw_course(0, index)
        statements = pd.DataFrame(write_reports(course, 0)[1])
        imaged = np.flatnonzero(course.imaged).tolist()
        for row in statements.itertuples(index=False):
            finding = course.findings[row.finding]
            before = imaged[imaged.index(row.position) - 1]
            truth = direction(float(finding.diameters[before]), float(finding.diameters[row.position]))
            assert _SAID[row.direction] in row.text
            assert row.location in row.text
            agrees = row.direction == truth and row.location == finding.location
            assert agrees == row.consistent
            flip = None if pd.isna(row.flip) else row.flip
            assert (flip is None) == row.consistent
            if flip == "direction":
                assert row.location == finding.location
            if flip == "location":
                assert row.direction == truth
                assert row.location not in {f.location for f in course.findings}
            flips.append(flip)
    assert abs(np.mean([flip is not None for flip in flips]) - 0.5) < 0.05
    assert {"direction", "location", None} == set(flips)


def test_only_true_statements_stand_in_a_report(tiny_timeline: Timeline) -> None:
    statements = tiny_timeline.table("statements")
    assert (statements["report_id"].notna() == statements["consistent"]).all()

"""A large set of courses with their questions, without pixels."""

from __future__ import annotations

import pandas as pd
import pytest

from temmed.timelines.synthetic.courses import Course, draw_course
from temmed.timelines.synthetic.questions import draw_questions


@pytest.fixture(scope="session")
def many_courses() -> list[Course]:
    return [draw_course(0, index) for index in range(1500)]


@pytest.fixture(scope="session")
def many_questions(many_courses: list[Course]) -> pd.DataFrame:
    return draw_questions(many_courses, 0)

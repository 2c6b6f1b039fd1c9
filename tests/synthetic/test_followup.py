"""Response to therapy, new findings and comparisons: exact, balanced, and not to be read off the asked image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from temmed.prompts.questions import COMPARISON_CHOICES, RESPONSE_CHOICES, YES_NO
from temmed.timelines.schema import horizon_bin
from temmed.timelines.synthetic.courses import Course, draw_course
from temmed.timelines.synthetic.followup import MEASURABLE, baseline_position, response
from temmed.timelines.synthetic.modalities.ct import PLAN
from temmed.timelines.synthetic.modalities.cxr import PLAN as RADIOGRAPHS
from temmed.timelines.synthetic.plan import Plan
from temmed.timelines.synthetic.questions import draw_questions

KINDS = ("response", "new_finding", "comparison")


def _draw(plan: Plan, count: int, seed: int = 0) -> list[Course]:
    """Patients without anatomy, which nothing that is asked depends on."""
    plan = replace(plan, draw_anatomy=lambda rng, age: None)
    return [draw_course(seed, index, 2, plan) for index in range(count)]


@pytest.fixture(scope="module")
def courses() -> list[Course]:
    return _draw(PLAN, 1000)


@pytest.fixture(scope="module")
def questions(courses: list[Course]) -> pd.DataFrame:
    return draw_questions(courses, 0, KINDS)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((20.0, 20.0, 30.0), 0),
        ((20.0, 10.0, 14.0), 2),  # 40 % above the nadir, but by 4 mm only, and 30 % below the baseline
        ((20.0, 12.0, 18.0), 0),
        ((10.0, 10.0, 13.0), 1),
        ((20.0, 20.0, 13.0), 2),
        ((20.0, 18.0, 15.0), 1),
        ((20.0, 8.0, 0.0), 2),
    ],
)
def test_response_criteria(sizes: tuple[float, float, float], expected: int) -> None:
    assert response(*sizes)[0] == expected


@pytest.mark.parametrize("sizes", [(20.0, 20.0, 24.3), (20.0, 20.0, 14.1), (10.0, 10.0, 14.8)])
def test_nothing_is_asked_near_a_bound(sizes: tuple[float, float, float]) -> None:
    assert not response(*sizes)[1]


def test_response_follows_from_the_truth(courses: list[Course], questions: pd.DataFrame) -> None:
    asked = questions[questions["task"] == "response"]
    assert set(asked["template"]) == {"response_finding", "response_overall"}
    for row in asked.itertuples(index=False):
        course = courses[row.course]
        base = baseline_position(course)
        assert base is not None
        assert course.treatment is not None
        assert base == min(row.evidence)
        assert course.times[base] < course.treatment
        later = [p for p in range(base, row.asked_at) if course.imaged[p]]
        if row.template == "response_finding":
            sizes = course.findings[int(row.finding)].diameters
            new = False
        else:
            targets = [f.diameters for f in course.findings if f.diameters[base] >= MEASURABLE]
            sizes = np.sum(targets, axis=0)
            seen = [f for f in course.findings if f.diameters[row.asked_at] > 0]
            new = any(not f.diameters[: base + 1][course.imaged[: base + 1]].any() for f in seen)
        now, nadir = sizes[row.asked_at], min(sizes[p] for p in later)
        if new or (now >= 1.2 * nadir and now - nadir >= 5):
            expected = "progressing"
        else:
            expected = "improved" if now <= 0.7 * sizes[base] else "stable"
        assert row.answer == expected


def test_new_findings_follow_from_the_truth(courses: list[Course], questions: pd.DataFrame) -> None:
    asked = questions[questions["task"] == "new_finding"]
    assert set(asked["template"]) == {"new_previous", "new_timepoint", "new_since"}
    for row in asked.itertuples(index=False):
        course = courses[row.course]
        imaged = np.flatnonzero(course.imaged)
        if row.template == "new_since":
            first_seen = imaged[np.argmax(course.findings[int(row.finding)].diameters[imaged] > 0)]
            assert row.answer == f"time point {first_seen}"
            assert row.answer in row.choices
            continue
        first = row.evidence[0]
        if row.template == "new_previous":
            assert first == imaged[imaged < row.asked_at].max()
        new = [
            f
            for f in course.findings
            if f.diameters[row.asked_at] > 0 and not f.diameters[imaged[imaged <= first]].any()
        ]
        assert row.answer == ("yes" if new else "no")


def test_comparisons_follow_from_the_truth(courses: list[Course], questions: pd.DataFrame) -> None:
    asked = questions[questions["task"] == "comparison"]
    for row in asked.itertuples(index=False):
        course = courses[row.course]
        if row.answer == "never there":
            assert any(f"{label} in the {place}" in row.prompt for label, place in course.absent)
            continue
        before, now = course.findings[int(row.finding)].diameters[row.evidence]
        if row.answer in ("new", "resolved"):
            assert (before > 0, now > 0) == (row.answer == "resolved", row.answer == "new")
        else:
            ratio = np.log(now / before)
            change = "worse" if ratio > 0 else "improved"
            assert row.answer == (change if abs(ratio) >= np.log(1.2) else "stable")


@pytest.mark.parametrize(
    ("task", "choices", "least"),
    [("response", RESPONSE_CHOICES, 400), ("new_finding", YES_NO, 500), ("comparison", COMPARISON_CHOICES, 500)],
)
def test_answers_are_balanced(questions: pd.DataFrame, task: str, choices: tuple[str, ...], least: int) -> None:
    asked = questions[(questions["task"] == task) & (questions["template"] != "new_since")]
    assert len(asked) >= least
    for _, group in asked.groupby(["template", asked["horizon_steps"].map(horizon_bin)]):
        if len(group) < 60:
            continue
        shares = group["answer"].value_counts(normalize=True).reindex(list(choices), fill_value=0)
        assert np.abs(shares - 1 / len(choices)).max() < 4 * np.sqrt(0.25 / len(group)), (task, shares)


@pytest.mark.parametrize("plan", [PLAN, RADIOGRAPHS], ids=["ct", "cxr"])
def test_neither_the_asked_image_nor_the_visits_tell(plan: Plan) -> None:
    courses = _draw(plan, 1000)
    questions = draw_questions(courses, 0, ("progression", "response", "new_finding"))
    for _, asked in questions[questions["template"] != "new_since"].groupby("task"):
        _check_untold(courses, asked)


def _check_untold(courses: list[Course], asked: pd.DataFrame) -> None:
    rows = []
    for row in asked.itertuples(index=False):
        sizes = [f.diameters[row.asked_at] for f in courses[row.course].findings]
        own = sizes[int(row.finding)] if row.finding is not None and not np.isnan(row.finding) else 0.0
        seen, visits = np.count_nonzero(sizes), len(courses[row.course].times)
        rows.append((own, sum(sizes), max(sizes), seen, visits, row.asked_at, row.horizon_steps, row.horizon_time))
    features = np.column_stack([rows, asked["template"].astype("category").cat.codes])
    model = HistGradientBoostingClassifier(max_iter=40, max_depth=4, random_state=0)
    guess = cross_val_predict(model, features, asked["answer"], groups=asked["course"], cv=GroupKFold(4))
    chance = asked["answer"].value_counts(normalize=True).max()
    assert np.mean(guess == asked["answer"].to_numpy()) < chance + 2 / np.sqrt(len(asked)), asked["task"].iloc[0]


@pytest.mark.parametrize("patients", [1, 2, 5])
@pytest.mark.parametrize("plan", [PLAN, RADIOGRAPHS], ids=["ct", "cxr"])
def test_small_sets_keep_few_questions_or_none(patients: int, plan: Plan) -> None:
    for seed in range(6):
        asked = draw_questions(_draw(plan, patients, seed), seed, KINDS)
        for answers, choices in (("response", RESPONSE_CHOICES), ("comparison", COMPARISON_CHOICES)):
            counts = asked.loc[asked["task"] == answers, "answer"].value_counts()
            assert len(counts) in (0, len(choices))

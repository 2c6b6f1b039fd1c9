"""Questions: the rule, exact answers, evidence that is there, and nothing to guess from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from temmed.prompts.questions import NEVER, PROGRESSION_CHOICES
from temmed.timelines.schema import PROGRESSION_BOUND, PROGRESSION_MARGIN, horizon_bin
from temmed.timelines.synthetic.courses import Course, draw_course
from temmed.timelines.synthetic.progression import verdict
from temmed.timelines.synthetic.questions import draw_questions

_SIZES = st.floats(1.0, 100.0)


@given(_SIZES, _SIZES)
@example(31.0, 31.0 * 1.2)
def test_reversing_time_swaps_progressed_and_regressed(first: float, last: float) -> None:
    forward, asked = verdict(np.array([first]), np.array([last]))
    backward, asked_back = verdict(np.array([last]), np.array([first]))
    assert forward[0] == 2 - backward[0]
    assert asked[0] == asked_back[0]


@pytest.mark.parametrize(
    ("first", "last", "expected", "asked"),
    [
        (10.0, 12.7, 0, True),
        (10.0, 12.0, 0, False),
        (10.0, 12.5, 0, False),
        (10.0, 11.9, 1, False),
        (10.0, 10.0, 1, True),
        (10.0, 11.3, 1, True),
        (10.0, 8.4, 1, False),
        (10.0, 8.3, 2, False),
        (10.0, 7.95, 2, False),
        (10.0, 7.8, 2, True),
    ],
)
def test_bounds_of_the_rule(first: float, last: float, expected: int, asked: bool) -> None:
    index, far = verdict(np.array([first]), np.array([last]))
    assert (index[0], far[0]) == (expected, asked)


def _of_task(questions: pd.DataFrame, task: str) -> pd.DataFrame:
    return questions[questions["task"] == task]


def _sizes(courses: list[Course], row: tuple) -> tuple[float, float]:
    diameters = courses[row.course].findings[int(row.finding)].diameters
    return float(diameters[row.evidence[0]]), float(diameters[row.evidence[-1]])


def test_verdicts_follow_from_the_truth(many_courses: list[Course], many_questions: pd.DataFrame) -> None:
    progression = _of_task(many_questions, "progression")
    for row in progression.itertuples(index=False):
        first, last = _sizes(many_courses, row)
        ratio = np.log(last / first)
        expected = 0 if ratio >= PROGRESSION_BOUND else 2 if ratio <= -PROGRESSION_BOUND else 1
        assert row.answer == PROGRESSION_CHOICES[expected]
        assert abs(abs(ratio) - PROGRESSION_BOUND) > PROGRESSION_MARGIN
        assert row.evidence[-1] == row.asked_at


def test_templates_mean_what_they_say(many_courses: list[Course], many_questions: pd.DataFrame) -> None:
    for row in _of_task(many_questions, "progression").itertuples(index=False):
        course = many_courses[row.course]
        finding = course.findings[int(row.finding)]
        imaged = np.flatnonzero(course.imaged)
        first, last = row.evidence
        assert finding.phrase in row.prompt
        if row.template == "progression_previous":
            assert first == imaged[imaged < last].max()
        elif row.template == "progression_first":
            assert first == imaged[finding.diameters[imaged] > 0].min()
        elif row.template == "progression_timepoint":
            assert f"time point {first}" in row.prompt
            assert f"time point {last}" in row.prompt
        else:
            assert f"{course.times[first]:g} days" in row.prompt
            assert f"{course.times[last]:g} days" in row.prompt
        assert row.names_position == (row.template in ("progression_timepoint", "progression_elapsed"))


def test_evidence_is_imaged_visible_and_in_the_past(many_courses: list[Course], many_questions: pd.DataFrame) -> None:
    for row in many_questions.itertuples(index=False):
        course = many_courses[row.course]
        assert course.imaged[row.asked_at]
        assert course.imaged[row.evidence].all()
        assert all(position <= row.asked_at for position in row.evidence)
        if row.task in ("progression", "measurement"):
            assert (course.findings[int(row.finding)].diameters[row.evidence] > 0).all()
        if row.evidence:
            assert row.horizon_steps == row.asked_at - min(row.evidence)
            assert row.horizon_time == course.times[row.asked_at] - course.times[min(row.evidence)]
        else:
            assert row.evidence_kind == "absence"
            assert row.answer == NEVER


def test_measurements_are_the_true_diameters(many_courses: list[Course], many_questions: pd.DataFrame) -> None:
    measurement = _of_task(many_questions, "measurement")
    assert set(measurement["template"]) == {
        "measurement_prior",
        "measurement_current",
        "measurement_ratio",
        "measurement_size",
    }
    for row in measurement.itertuples(index=False):
        first, last = _sizes(many_courses, row)
        assert row.value == pytest.approx(last / first if row.template == "measurement_ratio" else last, abs=6e-4)


def test_event_answers_are_the_first_image_that_shows_it(
    many_courses: list[Course], many_questions: pd.DataFrame
) -> None:
    for row in _of_task(many_questions, "event").itertuples(index=False):
        assert len(set(row.choices)) == 4
        assert row.answer in row.choices
        assert NEVER in row.choices
        course = many_courses[row.course]
        if row.finding is None or np.isnan(row.finding):
            assert row.answer == NEVER
            assert any(f"{label} in the {place}" in row.prompt for label, place in course.absent)
            continue
        seen = np.flatnonzero(course.imaged & (np.arange(len(course.times)) <= row.asked_at))
        present = course.findings[int(row.finding)].diameters[seen] > 0
        showing = present if row.template == "event_appear" else ~present & (np.cumsum(present) > 0)
        moments = seen[showing]
        assert row.answer == (f"time point {moments[0]}" if len(moments) else NEVER)


def test_verdicts_are_balanced_in_every_template_and_horizon(many_questions: pd.DataFrame) -> None:
    progression = _of_task(many_questions, "progression")
    assert len(progression) > 4000
    bins = progression["horizon_steps"].map(horizon_bin)
    shares = pd.crosstab([progression["template"], bins], progression["answer"], normalize="index")
    counts = progression.groupby(["template", bins]).size()
    assert set(shares.columns) == set(PROGRESSION_CHOICES)
    # Whole triplets are drawn, so the shares are equal but for cells of long horizons that span two bins.
    assert np.abs(shares.to_numpy() - 1 / 3).max() < 0.02, shares
    assert counts.min() >= 100, counts


def test_nothing_but_the_comparison_tells_the_verdict(many_courses: list[Course], many_questions: pd.DataFrame) -> None:
    progression = _of_task(many_questions, "progression")
    rows = []
    for row in progression.itertuples(index=False):
        course = many_courses[row.course]
        sizes = [f.diameters[row.asked_at] for f in course.findings]
        own = sizes.pop(int(row.finding))
        rows.append(
            (own, row.horizon_time, row.horizon_steps, row.asked_at, sum(sizes), max(sizes), np.count_nonzero(sizes))
        )
    features = np.column_stack([rows, progression["template"].astype("category").cat.codes])
    model = HistGradientBoostingClassifier(max_iter=40, max_depth=4, random_state=0)
    guess = cross_val_predict(model, features, progression["answer"], groups=progression["course"], cv=GroupKFold(4))
    truth = progression["answer"].to_numpy()
    majority = progression["answer"].value_counts(normalize=True).max()
    assert np.mean(guess == truth) < majority + 0.03


def test_event_answers_stand_at_any_place_among_the_choices(many_questions: pd.DataFrame) -> None:
    event = _of_task(many_questions, "event")
    for template, group in event.groupby("template"):
        place = [choices.index(answer) for choices, answer in zip(group["choices"], group["answer"], strict=True)]
        shares = np.bincount(place, minlength=4) / len(place)
        # Four binomial standard deviations.
        assert np.abs(shares - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / len(place)), (template, shares)


def test_never_is_as_likely_as_each_other_choice(many_questions: pd.DataFrame) -> None:
    event = _of_task(many_questions, "event")
    for template, group in event.groupby("template"):
        share = (group["answer"] == NEVER).mean()
        assert abs(share - 0.25) < 0.05, (template, share)


@pytest.mark.parametrize(("patients", "seed"), [(1, 0), (1, 11), (2, 3), (5, 1)])
def test_small_sets_stay_balanced_or_empty(patients: int, seed: int) -> None:
    questions = draw_questions([draw_course(seed, index) for index in range(patients)], seed)
    progression = _of_task(questions, "progression")["answer"].value_counts()
    assert progression.nunique() <= 1
    assert len(progression) in (0, 3)
    assert {"course", "finding", "prompt", "evidence_kind"} <= set(questions.columns)

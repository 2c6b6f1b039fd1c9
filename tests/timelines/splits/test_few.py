"""Few train patients, and the same val and test."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, make_split

Crowd = Callable[..., Timeline]
RULES = [
    {"by": "patient"},
    {"by": "time"},
    {"by": "stratified", "stratify": ["sex"]},
    {"by": "kfold", "folds": 3, "fold": 0},
    {"by": "site", "site": "A"},
]


def train(split: Split) -> set[str]:
    return set(split.sequences("train")["patient_id"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["by"])
@pytest.mark.parametrize("per", [None, "sex", "progression"])
@given(seed=st.integers(0, 99), numbers=st.tuples(st.integers(1, 6), st.integers(1, 6)).map(sorted))
@settings(max_examples=2, deadline=None)
def test_fewer_are_among_more_and_the_rest_stays(
    rule: dict, per: str | None, seed: int, numbers: list[int], crowd: Crowd
) -> None:
    timeline = crowd(120)
    whole = make_split(timeline, seed=seed, **rule)
    few, more = (make_split(timeline, seed=seed, few_shot=number, few_shot_per=per, **rule) for number in numbers)
    assert train(few) <= train(more) <= train(whole)
    for split in (few, more):
        for subset in ("val", "test"):
            pd.testing.assert_frame_equal(
                split.sequences(subset).reset_index(drop=True), whole.sequences(subset).reset_index(drop=True)
            )
        rows = whole.sequences("train")
        kept = rows[rows["patient_id"].isin(train(split))].reset_index(drop=True)
        pd.testing.assert_frame_equal(split.sequences("train").reset_index(drop=True), kept)
    if per is None:
        assert len(train(few)) == numbers[0]
    if per == "sex":
        sexes = timeline.table("patients").set_index("patient_id")["sex"]
        assert sexes.loc[sorted(train(few))].value_counts().tolist() == [numbers[0]] * 2
    if per == "progression":
        asked = few.questions(timeline, "train").merge(timeline.table("sequences"))
        assert asked.groupby("answer")["patient_id"].nunique().min() >= numbers[0]
        assert len(train(few)) <= 3 * numbers[0]


def test_another_seed_draws_others_for_the_same_test(crowd: Crowd) -> None:
    timeline = crowd(200)
    drawn = {seed: train(make_split(timeline, few_shot=8, seed=seed)) for seed in (0, 1)}
    assert drawn[0] != drawn[1]


def test_the_fingerprint_tells_few_from_whole(crowd: Crowd) -> None:
    prints = {make_split(crowd(60), few_shot=number).fingerprint for number in (None, 4, 5)}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("number", "per", "message"),
    [
        (10_000, None, "at least 10000 train patients, found 3"),
        (25, "sex", r"at least 25 train patients with sex '[FM]', found"),
        (2, "sax", r"a column of the patients table or a task of the questions, found 'sax'.*sex, site, progression"),
    ],
)
def test_too_few_patients_are_refused(number: int, per: str | None, message: str, crowd: Crowd) -> None:
    with pytest.raises(InputError, match=message):
        make_split(crowd(60), few_shot=number, few_shot_per=per)


def test_a_class_without_anybody_is_refused(crowd: Crowd) -> None:
    timeline = crowd(60)
    timeline.table("patients")["site"] = pd.array([None] * 60, dtype="str")
    with pytest.raises(InputError, match="at least 2 train patients, found 0"):
        make_split(timeline, few_shot=2, few_shot_per="site")

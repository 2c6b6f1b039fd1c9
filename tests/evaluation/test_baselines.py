from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.dummy import DummyClassifier

from temmed.evaluation.baselines import chance, majority_answers, nearest_size_answers, prior_size_answers
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split


def test_chance_is_one_over_the_number_of_choices() -> None:
    questions = pd.DataFrame({"choices": [["a", "b"], ["a", "b", "c", "d"], None, []]})
    np.testing.assert_array_equal(chance(questions), [0.5, 0.25, np.nan, np.nan])


def test_majority_is_that_of_train(timeline: Timeline, split: Split, asked: pd.DataFrame) -> None:
    train = split.questions(timeline, "train")
    answers = majority_answers(train, asked, ["task"])
    rows = (asked["task"] == "progression").to_numpy()
    fitted = train[train["task"] == "progression"]
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(fitted), 1)), fitted["answer"])
    assert (answers[rows] == dummy.predict(np.zeros((rows.sum(), 1)))).all()


def test_majority_within_template_differs_where_templates_do() -> None:
    train = pd.DataFrame(
        {"task": "t", "template": ["x", "x", "x", "y", "y", "y"], "answer": ["b", "b", "a", "a", "a", "a"]}
    )
    questions = pd.DataFrame({"task": "t", "template": ["y", "x", "z"]})
    assert majority_answers(train, questions, ["task"]).tolist() == ["a", "a", "a"]
    answers = majority_answers(train, questions, ["task", "template"])
    assert answers.tolist()[:2] == ["a", "b"]
    assert pd.isna(answers[2])


def test_equally_frequent_answers_are_taken_by_name() -> None:
    train = pd.DataFrame({"task": "t", "answer": ["stable", "progressed", "progressed", "stable"]})
    assert majority_answers(train, train, ["task"]).unique().tolist() == ["progressed"]


def test_neighbours_reach_the_bayes_rate_where_it_is_known() -> None:
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 2, count)
        return rng.normal(labels * 2.0, 1.0), np.array(["small", "large"], dtype=object)[labels]

    values, labels = draw(6000)
    asked, truth = draw(20_000)
    rate = (nearest_size_answers(values, labels, asked) == truth).mean()
    # Two unit Gaussians two apart: the best cut is halfway, right with probability Φ(1).
    assert rate == pytest.approx(norm.cdf(1.0), abs=0.012)


def test_neighbours_of_few_values() -> None:
    assert nearest_size_answers([1.0], ["a"], [5.0, -5.0]).tolist() == ["a", "a"]


def test_prior_size_answers_progression_only(timeline: Timeline, split: Split, asked: pd.DataFrame) -> None:
    train = split.questions(timeline, "train").reset_index(drop=True)
    answers = prior_size_answers(timeline, train, asked)
    assert (answers.notna() == (asked["task"] == "progression")).all()


def test_prior_size_does_not_see_the_answers_it_is_scored_on(
    timeline: Timeline, split: Split, asked: pd.DataFrame
) -> None:
    train = split.questions(timeline, "train").reset_index(drop=True)
    turned = asked.assign(answer=asked["answer"].map({"progressed": "regressed", "regressed": "progressed"}))
    turned["answer"] = turned["answer"].fillna(asked["answer"])
    pd.testing.assert_series_equal(
        prior_size_answers(timeline, train, asked), prior_size_answers(timeline, train, turned)
    )

"""Scores of judged statements."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss

from temmed.errors import InputError
from temmed.evaluation.scoring import score
from temmed.evaluation.statements import judge_statements, statement_estimates, statement_truths
from temmed.predictions.tables import Predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, make_split


@pytest.fixture(scope="module")
def split(tiny_timeline: Timeline) -> Split:
    return make_split(tiny_timeline, by="patient", seed=0)


@pytest.fixture
def truths(tiny_timeline: Timeline, split: Split) -> pd.DataFrame:
    found = statement_truths(tiny_timeline, split, "train")
    assert {"none", "direction", "location"} == set(found["flip"])
    return found


def _given(truths: pd.DataFrame, probability: np.ndarray) -> Predictions:
    statements = pd.DataFrame({"statement_id": truths["statement_id"], "probability": probability})
    return Predictions(pd.DataFrame(), statements=statements.sample(frac=1, random_state=0))


def _scored(truths: pd.DataFrame, probability: np.ndarray) -> dict[str, float]:
    judged = judge_statements(truths, _given(truths, probability))
    return {name: estimate.value for name, estimate in statement_estimates(judged, 20, 0)}


def test_statements_are_those_of_the_subset_at_its_positions(
    tiny_timeline: Timeline, split: Split, truths: pd.DataFrame
) -> None:
    table = tiny_timeline.table("statements").merge(split.sequences("train"), on="sequence_id")
    assert sorted(truths["statement_id"]) == sorted(table["statement_id"])
    assert (truths["consistent"] == (truths["flip"] == "none")).all()


def test_the_error_weighs_truth_and_kinds_of_flip_alike(truths: pd.DataFrame) -> None:
    guess = np.random.default_rng(0).random(len(truths))
    found = _scored(truths, guess)
    each = []
    for kind in ("direction", "location"):
        rows = truths["flip"].isin(["none", kind])
        each.append(1 - balanced_accuracy_score(truths["consistent"][rows], guess[rows] >= 0.5))
        assert found[f"statement_error/flip={kind}"] == pytest.approx(each[-1])
    assert found["statement_error"] == pytest.approx(np.mean(each))
    assert found["statement_brier"] == pytest.approx(brier_score_loss(truths["consistent"], guess))


@pytest.mark.parametrize("verdict", [0.0, 1.0])
def test_a_constant_verdict_is_wrong_half_of_the_time(truths: pd.DataFrame, verdict: float) -> None:
    assert _scored(truths, np.full(len(truths), verdict))["statement_error"] == 0.5


def test_the_truth_has_no_error(truths: pd.DataFrame) -> None:
    found = _scored(truths, truths["consistent"].to_numpy(dtype=float))
    assert set(found.values()) == {0.0}


def test_a_statement_without_a_row_is_refused_or_wrong(truths: pd.DataFrame) -> None:
    given = _given(truths.iloc[1:], truths["consistent"].to_numpy(dtype=float)[1:])
    with pytest.raises(InputError, match="a probability of every statement"):
        judge_statements(truths, given)
    judged = judge_statements(truths, given, allow_missing=True)
    assert judged["right"].tolist() == [0.0] + [1.0] * (len(truths) - 1)
    assert judged["brier"].isna().tolist() == [True] + [False] * (len(truths) - 1)


def test_scores_of_a_run_hold_the_error(tiny_timeline: Timeline, split: Split) -> None:
    questions = split.questions(tiny_timeline, "test")
    truths = statement_truths(tiny_timeline, split, "test")
    answers = pd.DataFrame({"question_id": questions["question_id"]})
    answers[["answer", "probabilities", "value", "confidence", "evidence"]] = None
    probability = truths["consistent"].astype(float)
    statements = pd.DataFrame({"statement_id": truths["statement_id"], "probability": probability})
    found = score(tiny_timeline, split, "test", Predictions(answers, statements=statements), resamples=20)
    assert found["test/alignment/statement_error"]["value"] == 0.0
    assert found["test/alignment/statement_error"]["n"] == len(truths)
    silent = score(tiny_timeline, split, "test", Predictions(answers), resamples=20)
    assert not [key for key in silent if "/alignment/" in key]

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

from temmed.errors import InputError
from temmed.metrics.functional.conformal import aps_scores, conformal_threshold, lac_scores, prediction_sets


class Told(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its probabilities."""

    def fit(self, features: np.ndarray, truth: np.ndarray) -> Told:
        self.classes_ = np.arange(features.shape[1])
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        return features

    def predict(self, features: np.ndarray) -> np.ndarray:
        return features.argmax(axis=1)


def draw(rng: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    probabilities = rng.dirichlet(np.full(k, 0.8), n)
    return probabilities, np.array([rng.choice(k, p=row) for row in probabilities])


def test_lac_sets_of_patients_with_one_question_equal_mapie() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, k = int(rng.integers(20, 60)), int(rng.integers(3, 6))
        probabilities, truth = draw(rng, n, k)
        truth[:k] = np.arange(k)
        asked, _ = draw(rng, 30, k)
        miscoverage = float(rng.uniform(0.06, 0.4))
        reference = SplitConformalClassifier(
            Told().fit(probabilities, truth), confidence_level=1 - miscoverage, conformity_score="lac", prefit=True
        ).conformalize(probabilities, truth)
        _, theirs = reference.predict_set(asked)
        of_truth = lac_scores(probabilities)[np.arange(n), truth]
        ours = prediction_sets(lac_scores(asked), conformal_threshold(of_truth, np.arange(n), miscoverage))
        # MAPIE may leave a set empty, ours holds the likeliest choice then.
        likeliest = np.eye(k, dtype=bool)[asked.argmax(axis=1)]
        np.testing.assert_array_equal(ours, theirs[:, :, 0] | likeliest)


def test_aps_scores_equal_mapie() -> None:
    rng = np.random.default_rng(5)
    for _ in range(1000):
        n, k = int(rng.integers(5, 30)), int(rng.integers(3, 7))
        probabilities, truth = draw(rng, n, k)
        theirs, _ = APSConformityScore.get_true_label_cumsum_proba(truth, probabilities, np.arange(k))
        np.testing.assert_allclose(aps_scores(probabilities)[np.arange(n), truth], theirs[:, 0], atol=1e-12)


def test_threshold_of_single_questions_is_the_usual_order_statistic() -> None:
    rng = np.random.default_rng(1)
    for _ in range(1000):
        n, miscoverage = int(rng.integers(1, 40)), float(rng.uniform(0.01, 0.99))
        scores, rank = rng.random(n), math.ceil((n + 1) * (1 - miscoverage))
        expected = np.sort(scores)[rank - 1] if rank <= n else np.inf
        assert conformal_threshold(scores, np.arange(n), miscoverage) == expected


def test_repeating_the_questions_of_a_patient_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        patients = rng.integers(0, 12, 40)
        scores = rng.random(40)
        times = rng.integers(1, 5, 12)[patients]
        expected = conformal_threshold(scores, patients, 0.2)
        assert conformal_threshold(np.repeat(scores, times), np.repeat(patients, times), 0.2) == expected


@pytest.mark.parametrize("scores_of", [lac_scores, aps_scores])
def test_coverage_of_new_patients_holds_where_answers_of_a_patient_are_alike(scores_of: type(lac_scores)) -> None:
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(400):
        # A patient is easy or hard as a whole, and the hard ones have far more questions.
        hard = rng.random(41) < 0.3
        patients = np.repeat(np.arange(41), np.where(hard, 30, 3))
        probabilities, truth = draw(rng, len(patients), 4)
        truth = np.where(hard[patients], rng.integers(0, 4, len(patients)), truth)
        scores = scores_of(probabilities)
        fitted = patients < 40
        threshold = conformal_threshold(scores[fitted, truth[fitted]], patients[fitted], 0.2)
        inside = prediction_sets(scores[~fitted], threshold)
        covered.append(inside[np.arange(len(inside)), truth[~fitted]].mean())
    # 400 new patients: the bound allows 3.3 standard errors of their mean.
    assert np.mean(covered) >= 0.8 - 3.3 * np.std(covered) / 20


def test_aps_scores_equal_summing_what_is_as_probable() -> None:
    rng = np.random.default_rng(4)
    for _ in range(1000):
        k, most = int(rng.integers(2, 6)), 6
        row = np.full(most, np.nan)
        row[:k] = rng.integers(0, 4, k) / 8
        expected = [np.nan if np.isnan(value) else row[:k][row[:k] >= value].sum() for value in row]
        np.testing.assert_allclose(aps_scores(row[None])[0], expected, atol=1e-12)


def test_by_hand() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1, np.nan], [0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_allclose(aps_scores(probabilities), [[0.6, 0.9, 1.0, np.nan], [1.0, 1.0, 1.0, 1.0]])
    assert prediction_sets(aps_scores(probabilities), 0.9).tolist() == [
        [True, True, False, False],
        [True, True, True, True],
    ]
    assert prediction_sets(lac_scores(probabilities), 0.1).tolist() == [
        [True, False, False, False],
        [True, True, True, True],
    ]
    # Two patients and infinity weigh a third each; the first patient's questions a sixth.
    assert conformal_threshold([0.1, 0.4, 0.3], ["a", "a", "b"], 0.5) == 0.3
    assert conformal_threshold([0.1, 0.4, 0.3], ["a", "a", "b"], 1 / 3) == 0.4


def test_too_few_patients_have_sets_of_all_choices() -> None:
    threshold = conformal_threshold([0.1, 0.2, 0.3], ["a", "a", "b"], 0.1)
    assert threshold == np.inf
    assert prediction_sets(lac_scores([[0.9, 0.1, np.nan]]), threshold).tolist() == [[True, True, False]]
    assert conformal_threshold([], [], 0.1) == np.inf


def test_what_cannot_be_used_is_refused() -> None:
    for miscoverage in (0, 1, -0.1, np.nan):
        with pytest.raises(InputError, match="between 0 and 1"):
            conformal_threshold([0.1], ["a"], miscoverage)
    with pytest.raises(InputError, match="every right choice"):
        conformal_threshold([0.1, np.nan], ["a", "b"], 0.1)


@given(st.integers(0, 10_000), st.floats(0.02, 0.5))
@settings(max_examples=60, deadline=None)
def test_more_miscoverage_never_enlarges_a_set(seed: int, miscoverage: float) -> None:
    rng = np.random.default_rng(seed)
    probabilities, truth = draw(rng, 30, 4)
    patients = rng.integers(0, 15, 30)
    for scores in (lac_scores(probabilities), aps_scores(probabilities)):
        of_truth = scores[np.arange(30), truth]
        wide = prediction_sets(scores, conformal_threshold(of_truth, patients, miscoverage))
        narrow = prediction_sets(scores, conformal_threshold(of_truth, patients, min(2 * miscoverage, 0.99)))
        assert (wide | ~narrow).all()
        assert wide[np.arange(30), probabilities.argmax(axis=1)].all()

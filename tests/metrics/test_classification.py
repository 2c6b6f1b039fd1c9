from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from temmed.metrics.functional import classification

N_CLASSES = 4
ANSWERS = st.lists(
    st.tuples(st.integers(0, N_CLASSES - 1), st.integers(-1, N_CLASSES - 1)), min_size=1, max_size=60
).map(lambda pairs: np.array(pairs).T)


@given(ANSWERS)
@settings(max_examples=60, deadline=None)
def test_accuracy_equals_sklearn(answers: np.ndarray) -> None:
    truth, predicted = answers
    assert classification.accuracy(truth, predicted) == pytest.approx(accuracy_score(truth, predicted))


@given(ANSWERS)
@settings(max_examples=60, deadline=None)
def test_confusion_equals_sklearn(answers: np.ndarray) -> None:
    truth, predicted = answers
    ours = classification.confusion_matrix(truth, predicted, N_CLASSES)
    unparsable = np.where(predicted == -1, N_CLASSES, predicted)
    theirs = confusion_matrix(truth, unparsable, labels=range(N_CLASSES + 1))
    np.testing.assert_array_equal(ours, theirs[:N_CLASSES])


@given(ANSWERS)
@settings(max_examples=60, deadline=None)
def test_macro_f1_equals_sklearn(answers: np.ndarray) -> None:
    truth, predicted = answers
    ours = classification.macro_f1(classification.confusion_matrix(truth, predicted, N_CLASSES))
    # Classes that occur; the unparsable are no class of their own.
    labels = sorted(set(truth) | set(predicted) - {-1})
    assert float(ours) == pytest.approx(f1_score(truth, predicted, labels=labels, average="macro", zero_division=0))


@given(ANSWERS)
@settings(max_examples=60, deadline=None)
def test_weighted_f1_equals_sklearn(answers: np.ndarray) -> None:
    truth, predicted = answers
    ours = classification.weighted_f1(classification.confusion_matrix(truth, predicted, N_CLASSES))
    expected = f1_score(truth, predicted, labels=range(N_CLASSES), average="weighted", zero_division=0)
    assert float(ours) == pytest.approx(expected)


def test_grouped_confusion_adds_up() -> None:
    rng = np.random.default_rng(0)
    truth, predicted, groups = rng.integers(0, 3, 200), rng.integers(-1, 3, 200), rng.integers(0, 7, 200)
    stacked = classification.grouped_confusion(truth, predicted, 3, groups, 7)
    np.testing.assert_array_equal(stacked.sum(axis=0), classification.confusion_matrix(truth, predicted, 3))
    in_group = groups == 5
    np.testing.assert_array_equal(stacked[5], classification.confusion_matrix(truth[in_group], predicted[in_group], 3))


def test_nothing_to_judge_is_nan() -> None:
    assert np.isnan(classification.accuracy([], []))
    assert np.isnan(classification.macro_f1(np.zeros((3, 4))))
    assert np.isnan(classification.weighted_f1(np.zeros((3, 4))))

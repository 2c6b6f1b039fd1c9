from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from netcal.metrics.confidence import ECE
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from temmed.errors import InputError
from temmed.metrics.functional.calibration import (
    LEAST,
    area_under_risk_coverage,
    bin_edges,
    bin_index,
    brier_scores,
    expected_calibration_error,
    negative_log_likelihoods,
    reliability,
    risk_coverage,
)

CASES = 1000


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of shape ``(n, K)`` and truths that are right more often than by chance."""
    n, k = int(rng.integers(10, 80)), int(rng.integers(2, 7))
    probabilities = rng.dirichlet(np.full(k, 0.7), n)
    truth = np.where(rng.random(n) < 0.4, probabilities.argmax(axis=1), rng.integers(0, k, n))
    return probabilities, truth


def ragged(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    rows = [rng.dirichlet(np.ones(int(rng.integers(2, 8)))) for _ in range(int(rng.integers(1, 30)))]
    padded = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded, np.array([rng.integers(0, len(row)) for row in rows]), rows


@pytest.mark.parametrize("binning", ["width", "mass"])
def test_ece_equals_netcal(binning: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(CASES):
        probabilities, truth = draw(rng)
        bins = int(rng.integers(2, 21))
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
        theirs = ECE(bins, equal_intervals=binning == "width").measure(confidence, right.astype(int))
        assert expected_calibration_error(confidence, right, bins, binning) == pytest.approx(theirs, abs=1e-6)


def test_ece_equals_torchmetrics() -> None:
    rng = np.random.default_rng(1)
    for _ in range(CASES):
        probabilities, truth = draw(rng)
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
        ours = expected_calibration_error(confidence, right)
        tensors = torch.from_numpy(probabilities), torch.from_numpy(truth)
        theirs = multiclass_calibration_error(*tensors, num_classes=probabilities.shape[1], n_bins=15)
        assert ours == pytest.approx(float(theirs), abs=1e-6)
        # The binary one takes a confidence and whether it was right, which is all that ragged choices need.
        alone = binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(right.astype(int)), n_bins=15)
        assert ours == pytest.approx(float(alone), abs=1e-6)


def test_brier_and_nll_equal_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    for _ in range(CASES):
        probabilities, truth = draw(rng)
        labels = np.arange(probabilities.shape[1])
        brier = brier_score_loss(truth, probabilities, labels=labels, scale_by_half=False)
        assert brier_scores(probabilities, truth).mean() == pytest.approx(brier, abs=1e-6)
        nll = log_loss(truth, probabilities, labels=labels)
        assert negative_log_likelihoods(probabilities, truth).mean() == pytest.approx(nll, abs=1e-6)


def test_padding_of_ragged_choices_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    for _ in range(CASES):
        padded, truth, rows = ragged(rng)
        targets = [np.eye(len(row))[right] for row, right in zip(rows, truth, strict=True)]
        expected = [((row - target) ** 2).sum() for row, target in zip(rows, targets, strict=True)]
        np.testing.assert_allclose(brier_scores(padded, truth), expected, atol=1e-12)
        expected = [-np.log(row[right]) for row, right in zip(rows, truth, strict=True)]
        np.testing.assert_allclose(negative_log_likelihoods(padded, truth), expected, atol=1e-12)


def test_reliability_equals_a_loop_over_bins() -> None:
    rng = np.random.default_rng(4)
    for _ in range(CASES):
        n, bins = int(rng.integers(1, 60)), int(rng.integers(1, 12))
        confidence, right = rng.integers(0, 21, n) / 20, rng.integers(0, 2, n)
        table = reliability(confidence, right, bins)
        for place, (low, high) in enumerate(itertools.pairwise(table.edges)):
            last = place == bins - 1
            inside = (confidence >= low) & ((confidence <= high) if last else (confidence < high))
            assert table.count[place] == inside.sum()
            if inside.any():
                assert table.accuracy[place] == pytest.approx(right[inside].mean())
                assert table.confidence[place] == pytest.approx(confidence[inside].mean())
            else:
                assert np.isnan(table.accuracy[place])


def test_risk_at_ties_is_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        n = int(rng.integers(1, 6))
        confidence, wrong = rng.integers(0, 3, n) / 2, rng.integers(0, 2, n)
        orders = [order for order in itertools.permutations(range(n)) if (np.diff(confidence[list(order)]) <= 0).all()]
        risks = [np.cumsum(wrong[list(order)]) / np.arange(1, n + 1) for order in orders]
        coverage, risk = risk_coverage(confidence, 1 - wrong)
        np.testing.assert_allclose(risk, np.mean(risks, axis=0), atol=1e-12)
        np.testing.assert_allclose(coverage, np.arange(1, n + 1) / n)


def test_aurc_equals_sorting_and_counting() -> None:
    rng = np.random.default_rng(6)
    for _ in range(CASES):
        n = int(rng.integers(1, 50))
        confidence, right = rng.random(n), rng.integers(0, 2, n)
        surest = sorted(zip(confidence, right, strict=True), reverse=True)
        risks = [sum(1 - correct for _, correct in surest[:kept]) / kept for kept in range(1, n + 1)]
        assert area_under_risk_coverage(confidence, right) == pytest.approx(sum(risks) / n, abs=1e-9)


def test_by_hand() -> None:
    probabilities = [[0.7, 0.3, np.nan], [0.2, 0.5, 0.3]]
    np.testing.assert_allclose(brier_scores(probabilities, [0, 2]), [0.18, 0.04 + 0.25 + 0.49])
    np.testing.assert_allclose(negative_log_likelihoods(probabilities, [0, 2]), [-np.log(0.7), -np.log(0.3)])
    # Two bins: [0, 0.5) holds 0.2 (wrong); [0.5, 1] holds 0.5 (right), 0.9 (wrong).
    assert expected_calibration_error([0.2, 0.5, 0.9], [0, 1, 0], bins=2) == pytest.approx((0.2 + 0.4) / 3)
    assert area_under_risk_coverage([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0]) == pytest.approx(0.75)


def test_certain_and_wrong_stays_finite() -> None:
    assert negative_log_likelihoods([[1.0, 0.0]], [1]) == pytest.approx(-np.log(LEAST))
    assert brier_scores([[1.0, 0.0]], [1]) == pytest.approx(2.0)


def test_bounds_belong_to_the_bin_above_but_for_the_last() -> None:
    assert bin_index([0.0, 0.5, 0.999, 1.0], bin_edges([], bins=2)).tolist() == [0, 1, 1, 1]
    table = reliability([1.0, 0.0], [1, 0], bins=4)
    assert table.count.tolist() == [1, 0, 0, 1]


def test_one_confidence_for_all_is_one_bin() -> None:
    table = reliability([0.8] * 7, [1, 1, 1, 0, 0, 0, 0], bins=5, binning="mass")
    assert table.count.max() == 7
    assert expected_calibration_error([0.8] * 7, [1, 1, 1, 0, 0, 0, 0], 5, "mass") == pytest.approx(0.8 - 3 / 7)


def test_nothing_to_judge() -> None:
    assert np.isnan(expected_calibration_error([], []))
    assert np.isnan(expected_calibration_error([], [], binning="mass"))
    assert np.isnan(area_under_risk_coverage([], []))
    assert brier_scores(np.zeros((0, 3)), []).shape == (0,)
    assert negative_log_likelihoods(np.zeros((0, 3)), []).shape == (0,)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, np.inf])
def test_what_is_no_confidence_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="values from 0 to 1"):
        expected_calibration_error([0.5, bad], [1, 0])


def test_a_truth_that_is_no_choice_is_refused() -> None:
    for truth in (2, 3, -1):
        with pytest.raises(InputError, match="probability of the right choice"):
            brier_scores([[0.4, 0.6, np.nan]], [truth])
    with pytest.raises(InputError, match="confidence of every answer"):
        risk_coverage([0.3, np.nan], [1, 0])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50),
    st.integers(1, 20),
    st.sampled_from(["width", "mass"]),
)
def test_ece_lies_between_the_mean_gap_and_one(items: list[tuple[float, bool]], bins: int, binning: str) -> None:
    confidence, right = np.array([item[0] for item in items]), np.array([item[1] for item in items], dtype=float)
    found = expected_calibration_error(confidence, right, bins, binning)
    assert abs(confidence.mean() - right.mean()) - 1e-9 <= found <= 1 + 1e-9
    order = np.random.default_rng(0).permutation(len(items))
    assert expected_calibration_error(confidence[order], right[order], bins, binning) == pytest.approx(found)
    # Only the order of confidences counts for the area.
    assert area_under_risk_coverage(confidence, right) == pytest.approx(
        area_under_risk_coverage(confidence[order], right[order])
    )

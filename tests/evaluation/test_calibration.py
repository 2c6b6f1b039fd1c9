from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax

from temmed.errors import InputError
from temmed.evaluation.calibration import (
    METHODS,
    Scaling,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    with_temperature,
)
from temmed.evaluation.confidence import Certainty
from temmed.metrics.functional.calibration import expected_calibration_error, negative_log_likelihoods

TRUE_TEMPERATURE = 2.5


def overconfident(seed: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Ragged probabilities, sharper by `TRUE_TEMPERATURE` than those that the truth is drawn from."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, n)
    logits = np.where(np.arange(5) < sizes[:, None], rng.normal(0, 1.5, (n, 5)), -np.inf)
    honest = softmax(logits, axis=1)
    truth = np.array([rng.choice(5, p=row) for row in honest])
    return np.where(np.isfinite(logits), softmax(logits * TRUE_TEMPERATURE, axis=1), np.nan), truth


def certainty_of(probabilities: np.ndarray, truth: np.ndarray) -> Certainty:
    answered = np.nanargmax(probabilities, axis=1)
    return Certainty(
        probabilities, truth, np.nanmax(probabilities, axis=1), (answered == truth).astype(float), answered
    )


def test_temperature_is_found() -> None:
    probabilities, truth = overconfident(0)
    found = fit_temperature(probabilities, truth)
    assert found == pytest.approx(TRUE_TEMPERATURE, rel=0.05)
    # At the optimum the mean ln p of the truth is what the scaled probabilities expect of it.
    scaled, logs = with_temperature(probabilities, found), np.log(probabilities)
    expected = np.nansum(scaled * logs, axis=1).mean()
    assert logs[np.arange(len(truth)), truth].mean() == pytest.approx(expected, abs=1e-4)
    losses = [negative_log_likelihoods(with_temperature(probabilities, t), truth).mean() for t in np.arange(1, 5, 0.05)]
    assert negative_log_likelihoods(scaled, truth).mean() <= min(losses) + 1e-12


def test_temperature_scales_logits_of_any_number_of_choices() -> None:
    rng = np.random.default_rng(1)
    for _ in range(1000):
        k, temperature = int(rng.integers(2, 7)), float(rng.uniform(0.2, 5))
        logits = rng.normal(0, 2, k)
        padded = np.concatenate([softmax(logits), [np.nan]])[None]
        found = with_temperature(padded, temperature)
        np.testing.assert_allclose(found[0, :-1], softmax(logits / temperature), atol=1e-9)
        assert np.isnan(found[0, -1])


def test_questions_without_probabilities_stay_without() -> None:
    found = with_temperature([[np.nan, np.nan], [1.0, 0.0]], 2.0)
    assert np.isnan(found[0]).all()
    assert found[1].sum() == pytest.approx(1)
    assert found[1, 0] > 0.99


def platt_loss(weights: np.ndarray, odds: np.ndarray, targets: np.ndarray) -> float:
    z = weights[0] * odds + weights[1]
    return float((np.logaddexp(0, z) - targets * z).sum())


def test_platt_equals_maximising_the_likelihood_of_its_targets() -> None:
    rng = np.random.default_rng(2)
    for _ in range(30):
        confidence = rng.uniform(0.2, 0.98, 200)
        right = (rng.random(200) < expit(0.6 * logit(confidence) - 0.3)).astype(float)
        targets = np.where(right == 1, (right.sum() + 1) / (right.sum() + 2), 1 / ((1 - right).sum() + 2))

        slope, shift = minimize(platt_loss, [1.0, 0.0], (logit(confidence), targets), tol=1e-10).x
        stated = np.linspace(0.05, 0.95, 10)
        np.testing.assert_allclose(
            fit_platt(confidence, right)(stated), expit(slope * logit(stated) + shift), atol=1e-4
        )


def test_platt_bears_certainty_and_one_outcome() -> None:
    found = fit_platt(np.array([1.0, 0.0, 1.0, 0.5]), np.ones(4))(np.array([0.0, 0.5, 1.0]))
    assert ((found > 0.5) & (found < 1)).all()


def test_isotonic_is_the_mean_where_order_is_violated() -> None:
    scale = fit_isotonic([0.2, 0.4, 0.6, 0.8], [0.0, 1.0, 0.0, 1.0])
    np.testing.assert_allclose(scale(np.array([0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9])), [0, 0, 0.5, 0.5, 0.5, 1, 1])


@pytest.mark.parametrize("method", METHODS)
def test_scaling_brings_confidence_nearer_to_accuracy_on_other_answers(method: str) -> None:
    scaling = Scaling.fit(method, certainty_of(*overconfident(3)), "val")  # type: ignore[arg-type]
    other = certainty_of(*overconfident(4))
    scaled = scaling.apply(other)
    before = expected_calibration_error(other.confidence, other.right)
    after = expected_calibration_error(scaled.confidence, scaled.right)
    assert before > 0.1
    assert after < before / 3
    assert scaling.n == 4000
    if method == "temperature":
        assert scaled.scores()["nll"].mean() < other.scores()["nll"].mean()
    else:
        assert np.isnan(scaled.scores()["nll"]).all()


@pytest.mark.parametrize("method", METHODS)
def test_answers_that_state_nothing_stay_so(method: str) -> None:
    fitted = Scaling.fit(method, certainty_of(*overconfident(5, 300)), "val")  # type: ignore[arg-type]
    nothing = np.array([-1, -1])
    silent = Certainty(np.full((2, 3), np.nan), nothing, np.full(2, np.nan), np.array([1.0, np.nan]), nothing)
    assert np.isnan(fitted.apply(silent).confidence).all()
    with pytest.raises(InputError, match="val: expected answers with"):
        Scaling.fit(method, silent, "val")  # type: ignore[arg-type]


def test_temperature_needs_probabilities() -> None:
    nothing = np.array([-1, -1])
    stated = Certainty(np.full((2, 0), np.nan), nothing, np.array([0.9, 0.6]), np.array([1.0, 0.0]), nothing)
    with pytest.raises(InputError, match="choose platt or isotonic"):
        Scaling.fit("temperature", stated, "val")
    assert Scaling.fit("platt", stated, "val").n == 2

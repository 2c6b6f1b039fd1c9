from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temmed.evaluation.ceiling import (
    VERDICTS,
    drawn_verdict_probabilities,
    oracle_accuracy,
    verdict_probabilities,
)
from temmed.timelines.folder import Timeline
from temmed.timelines.schema import PROGRESSION_BOUND

CHANGES, ERRORS = st.floats(-1.5, 1.5), st.floats(0.001, 0.5)


def test_formula_agrees_with_drawing_measurements() -> None:
    rng = np.random.default_rng(0)
    log_diameters = rng.uniform(1, 3, (40, 2))
    log_diameters[:, 1] = log_diameters[:, 0] + rng.uniform(-0.5, 0.5, 40)
    errors = rng.uniform(0.01, 0.2, (40, 2))
    drawn = drawn_verdict_probabilities(log_diameters, errors, draws=20_000)
    formula = verdict_probabilities(np.diff(log_diameters)[:, 0], np.hypot(*errors.T))
    # Five standard errors of a share of 20,000 draws.
    np.testing.assert_allclose(drawn, formula, atol=5 * 0.5 / np.sqrt(20_000))


@given(CHANGES, ERRORS)
def test_probabilities_add_up_and_time_reversal_swaps_the_ends(change: float, error: float) -> None:
    forward, backward = verdict_probabilities([change, -change], [error, error])
    assert forward.sum() == pytest.approx(1)
    assert (forward >= -1e-12).all()
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-12)


@given(CHANGES, ERRORS)
def test_the_true_verdict_is_likelier_with_less_error(change: float, error: float) -> None:
    verdict = 0 if change >= PROGRESSION_BOUND else 2 if change <= -PROGRESSION_BOUND else 1
    finer, coarser = verdict_probabilities([change, change], [error / 2, error])
    assert finer[verdict] >= coarser[verdict] - 1e-12


def test_without_error_the_rule_holds_and_its_bounds_are_changes() -> None:
    changes = [PROGRESSION_BOUND, -PROGRESSION_BOUND, 0.1]
    np.testing.assert_array_equal(verdict_probabilities(changes, [0.0] * 3), np.eye(3)[[0, 2, 1]])


def test_on_the_bound_an_oracle_with_errors_is_right_half_the_time() -> None:
    assert verdict_probabilities([PROGRESSION_BOUND], [0.01])[0, 0] == pytest.approx(0.5)


def test_every_progression_question_has_a_ceiling_and_no_other(timeline: Timeline) -> None:
    questions = timeline.table("questions")
    ceiling = oracle_accuracy(timeline, questions)
    progression = (questions["task"] == "progression").to_numpy()
    assert np.isfinite(ceiling[progression]).all()
    assert np.isnan(ceiling[~progression]).all()
    # Nothing is asked on a bound, so that the oracle is right more often than not.
    assert (ceiling[progression] > 0.5).all()


def test_the_oracle_is_as_good_as_measuring_shows(timeline: Timeline) -> None:
    """Play the oracle: measure every diameter once with its stated error and answer by the rule."""
    questions = timeline.table("questions")
    questions = questions[questions["task"] == "progression"]
    table = timeline.table("measurements").pivot(index=["finding_id", "position"], columns="quantity", values="value")
    rng = np.random.default_rng(0)
    right = []
    for _ in range(20):
        measured = np.log(table["longest_diameter"]) + table["log_diameter_sd"] * rng.standard_normal(len(table))
        ends = [
            measured.loc[list(zip(questions["finding_id"], questions["evidence"].str[at], strict=True))].to_numpy()
            for at in (0, 1)
        ]
        change = ends[1] - ends[0]
        verdict = np.where(change >= PROGRESSION_BOUND, 0, np.where(change <= -PROGRESSION_BOUND, 2, 1))
        right.append((np.array(VERDICTS)[verdict] == questions["answer"].to_numpy()).mean())
    assert np.mean(right) == pytest.approx(oracle_accuracy(timeline, questions).mean(), abs=0.02)


def test_unmeasured_findings_have_no_ceiling(timeline: Timeline) -> None:
    questions = timeline.table("questions")
    strange = questions[questions["task"] == "progression"].head(3).copy()
    strange["finding_id"] = pd.Series(["elsewhere", None, strange["finding_id"].iloc[2]], index=strange.index)
    assert np.isnan(oracle_accuracy(timeline, strange)).tolist() == [True, True, False]

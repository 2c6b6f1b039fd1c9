from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress

from temmed.errors import InputError
from temmed.metrics.functional.horizon import horizon_aware_score, quantile_edges, skill, slope_per_doubling


def test_score_equals_a_loop_over_bins() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1000):
        bins = int(rng.integers(1, 9))
        accuracy, majority = rng.random(bins), rng.choice([0.3, 0.5, 0.9, 1.0], bins)
        patients = rng.integers(20, 45, bins)
        parts = [
            (reached - least) / (1 - least)
            for reached, least, count in zip(accuracy, majority, patients, strict=True)
            if count >= 30 and least < 1
        ]
        expected = sum(parts) / len(parts) if parts else float("nan")
        assert float(horizon_aware_score(accuracy, majority, patients)) == pytest.approx(expected, nan_ok=True)


def test_slope_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(1000):
        bins = int(rng.integers(2, 9))
        scores, horizons = rng.normal(size=bins), rng.uniform(0.5, 40, bins)
        scores[rng.random(bins) < 0.2] = np.nan
        horizons[rng.random(bins) < 0.1] = 0.0
        known = ~np.isnan(scores) & (horizons > 0)
        expected = linregress(np.log2(horizons[known]), scores[known]).slope if known.sum() > 1 else np.nan
        assert float(slope_per_doubling(scores, horizons)) == pytest.approx(expected, nan_ok=True)


def test_resamples_are_rows() -> None:
    rng = np.random.default_rng(2)
    accuracy, majority, patients = rng.random((5, 4)), rng.random((5, 4)), np.array([40, 40, 10, 40])
    accuracy[2, 1] = np.nan
    together = horizon_aware_score(accuracy, majority, patients)
    slopes = slope_per_doubling(skill(accuracy, majority), [1, 2, 3.5, 7])
    for row in range(5):
        assert together[row] == horizon_aware_score(accuracy[row], majority[row], patients)
        assert slopes[row] == pytest.approx(float(slope_per_doubling(skill(accuracy, majority)[row], [1, 2, 3.5, 7])))


def test_by_hand() -> None:
    assert float(horizon_aware_score([0.9, 0.7, 0.1], [0.5, 0.5, 0.5], [30, 31, 29])) == pytest.approx((0.8 + 0.4) / 2)
    assert float(slope_per_doubling([0.8, 0.4], [2, 8])) == pytest.approx(-0.2)


def test_too_little_is_nan() -> None:
    assert np.isnan(horizon_aware_score([0.9], [0.5], [29]))
    assert np.isnan(horizon_aware_score([1.0], [1.0], [99]))
    assert np.isnan(slope_per_doubling([0.5], [3]))
    assert np.isnan(slope_per_doubling([0.5, 0.7, 0.9], [3, 3, 3]))
    assert np.isnan(slope_per_doubling([0.5, 0.7], [np.nan, 3]))


def test_a_horizon_for_each_bin() -> None:
    with pytest.raises(InputError, match="2 horizons"):
        slope_per_doubling([0.5, 0.7], [1, 2, 3])


def test_quantile_edges() -> None:
    np.testing.assert_allclose(quantile_edges([1, 2, 3, 4, 5, np.nan]), [2, 3, 4])
    assert quantile_edges([7, 7, 7, 7]).tolist() == [7]
    assert quantile_edges([np.nan]).size == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=2, max_size=8), st.floats(0.1, 100))
def test_slope_does_not_depend_on_the_unit_of_time(scores: list[float], factor: float) -> None:
    horizons = 1.7 ** np.arange(len(scores))
    expected = float(slope_per_doubling(scores, horizons))
    assert float(slope_per_doubling(scores, factor * horizons)) == pytest.approx(expected, abs=1e-9)

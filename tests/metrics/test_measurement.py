from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_percentage_error

from temmed.metrics.functional.measurement import ratio_error, relative_error

SIZES = st.floats(0.5, 50)


def test_mean_equals_sklearn() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.uniform(1, 30, 50), rng.uniform(-1, 30, 50)
    assert relative_error(truth, predicted).mean() == pytest.approx(mean_absolute_percentage_error(truth, predicted))


def test_no_answer_costs_as_much_as_zero() -> None:
    np.testing.assert_allclose(relative_error([4.0, 4.0], [np.nan, 0.0]), [1.0, 1.0])
    np.testing.assert_allclose(ratio_error([4.0, 4.0, 4.0], [5.0] * 3, [np.nan, 4.0, -1.0], [5.0, np.nan, 5.0]), 1.0)


def test_truth_of_zero_has_no_relative_error() -> None:
    assert np.isnan(relative_error([0.0], [1.0])).all()
    assert np.isnan(ratio_error([0.0], [1.0], [1.0], [1.0])).all()


@given(SIZES, SIZES, st.floats(0.2, 5))
def test_a_common_scale_error_leaves_the_ratio_right(prior: float, current: float, scale: float) -> None:
    assert ratio_error([prior], [current], [scale * prior], [scale * current])[0] == pytest.approx(0, abs=1e-9)


@given(SIZES, SIZES, SIZES, SIZES)
def test_ratio_error_is_the_relative_error_of_the_ratio(a: float, b: float, c: float, d: float) -> None:
    assert ratio_error([a], [b], [c], [d])[0] == pytest.approx(relative_error([b / a], [d / c])[0])

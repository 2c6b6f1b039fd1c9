from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from temmed.metrics.functional.evidence import evidence_exact, evidence_f1

POSITIONS = st.lists(st.integers(0, 9), max_size=6)


@given(POSITIONS, POSITIONS)
def test_f1_equals_sklearn_on_indicators(truth: list[int], cited: list[int]) -> None:
    indicators = [[position in cells for position in range(10)] for cells in (truth, cited)]
    assert evidence_f1(truth, cited) == pytest.approx(f1_score(*indicators, zero_division=1.0))


@given(POSITIONS, POSITIONS)
def test_exact_means_f1_of_one(truth: list[int], cited: list[int]) -> None:
    assert evidence_exact(truth, cited) == (evidence_f1(truth, cited) == 1.0)

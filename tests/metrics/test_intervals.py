from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from temmed.metrics.functional.intervals import (
    Bounds,
    bound_distance,
    clip_bounds,
    clip_interval,
    interval_iou,
    temporal_iou,
)

NEVER = (np.nan, np.nan)
TIMES = st.floats(0, 100)
INTERVALS = st.tuples(TIMES, TIMES).map(sorted).map(tuple)


def bounds(*values: float) -> Bounds:
    return Bounds(*(np.array([value], dtype=float) for value in values))


def grid_iou(first: tuple[float, float], second: tuple[float, float], steps: int = 200_001) -> float:
    """An independent way: count moments inside both and inside either."""
    moments = np.linspace(-1, 101, steps)
    inside = [(moments >= start) & (moments <= end) for start, end in (first, second)]
    return (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()


@given(INTERVALS, INTERVALS)
def test_iou_equals_counting_moments(first: tuple[float, float], second: tuple[float, float]) -> None:
    assume(first[1] - first[0] > 1 and second[1] - second[0] > 1)
    assert interval_iou(*first, *second) == pytest.approx(grid_iou(first, second), abs=2e-3)


@given(INTERVALS, INTERVALS)
def test_iou_is_symmetric_and_within_bounds(first: tuple[float, float], second: tuple[float, float]) -> None:
    iou = float(interval_iou(*first, *second))
    assert 0 <= iou <= 1
    assert iou == pytest.approx(float(interval_iou(*second, *first)))
    assert float(interval_iou(*first, *first)) == 1


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (NEVER, NEVER, 1.0),
        (NEVER, (1.0, 2.0), 0.0),
        ((1.0, 2.0), NEVER, 0.0),
        ((3.0, 3.0), (3.0, 3.0), 1.0),
        ((3.0, 3.0), (4.0, 4.0), 0.0),
        ((3.0, 3.0), (2.0, 4.0), 0.0),
        ((0.0, 4.0), (4.0, 8.0), 0.0),
        ((0.0, 10.0), (5.0, 10.0), 0.5),
    ],
)
def test_iou_by_hand(first: tuple[float, float], second: tuple[float, float], expected: float) -> None:
    assert float(interval_iou(*first, *second)) == expected


def test_uncertain_truth_by_hand() -> None:
    # Onset between 0 and 10, offset between 20 and 40; predicted 6…30.
    overlap = temporal_iou(bounds(0, 10, 20, 40), [6.0], [30.0])
    assert overlap.midpoint[0] == pytest.approx(24 / 25)
    assert overlap.best[0] == 1.0
    assert overlap.worst[0] == pytest.approx(min(20 / 30, 24 / 40, 20 / 24, 10 / 24))


@given(st.lists(TIMES, min_size=4, max_size=4).map(sorted), INTERVALS)
def test_midpoint_lies_between_worst_and_best(truth: list[float], predicted: tuple[float, float]) -> None:
    assume(predicted[1] > predicted[0])
    overlap = temporal_iou(bounds(*truth), [predicted[0]], [predicted[1]])
    assert overlap.worst[0] <= overlap.midpoint[0] + 1e-9
    corners = [interval_iou(o, f, *predicted) for o in truth[:2] for f in truth[2:]]
    assert overlap.worst[0] == pytest.approx(min(float(corner) for corner in corners))
    assert overlap.best[0] >= max(float(corner) for corner in corners) - 1e-9


def test_never_is_right_or_wrong() -> None:
    assert temporal_iou(bounds(*NEVER, *NEVER), [np.nan], [np.nan]) == (1.0, 1.0, 1.0)
    assert temporal_iou(bounds(*NEVER, *NEVER), [1.0], [2.0]) == (0.0, 0.0, 0.0)
    assert temporal_iou(bounds(0, 1, 2, 3), [np.nan], [np.nan]) == (0.0, 0.0, 0.0)


def test_open_events_are_clipped_at_what_was_observed() -> None:
    clipped = clip_bounds(bounds(-np.inf, 0, 50, np.inf), 0, 50)
    np.testing.assert_array_equal(np.stack(clipped)[:, 0], [0, 0, 50, 50])
    # Censored at 30: still there at the end.
    np.testing.assert_array_equal(np.stack(clip_bounds(bounds(10, 20, 40, 60), 0, 30))[:, 0], [10, 20, 30, 30])


def test_an_event_before_the_first_observation_does_not_happen() -> None:
    assert np.isnan(np.stack(clip_bounds(bounds(0, 5, 10, 20), 20, 30))).all()
    # It may have lasted until then, or it began before and is still there.
    np.testing.assert_array_equal(np.stack(clip_bounds(bounds(0, 5, 10, 22), 20, 30))[:, 0], [20, 20, 20, 22])
    np.testing.assert_array_equal(np.stack(clip_bounds(bounds(0, 5, 40, np.inf), 20, 30))[:, 0], [20, 20, 30, 30])
    # An instant on the first observation.
    assert not np.isnan(np.stack(clip_bounds(bounds(20, 20, 20, 20), 20, 30))).any()
    onset, offset = clip_interval([1.0, 1.0, 1.0, 20.0], [19.0, 20.0, 25.0, 20.0], 20, 30)
    np.testing.assert_array_equal(onset, [np.nan, np.nan, 20, 20])
    np.testing.assert_array_equal(offset, [np.nan, np.nan, 25, 20])


@given(TIMES, TIMES, TIMES)
def test_distance_to_bounds_is_the_least_over_what_lies_inside(first: float, second: float, moment: float) -> None:
    low, high = sorted((first, second))
    nearest = min(abs(moment - true) for true in np.linspace(low, high, 2001))
    found = float(bound_distance(low, high, moment))
    assert found <= nearest + 1e-9
    assert found >= nearest - (high - low) / 2000 - 1e-9
    assert (found == 0) == (low <= moment <= high)


def test_distance_to_open_bounds_and_of_never() -> None:
    low, high = [-np.inf, 10, np.nan, 10], [10, np.inf, np.nan, 20]
    np.testing.assert_array_equal(bound_distance(low, high, [12, 12, 12, np.nan]), [2, 0, np.nan, np.nan])


def test_an_event_after_the_last_observation_has_not_happened() -> None:
    assert np.isnan(np.stack(clip_bounds(bounds(30, 40, 50, 60), 0, 30))).all()
    # Known exactly, and on the last observation: it has.
    assert not np.isnan(np.stack(clip_bounds(bounds(30, 30, 50, 60), 0, 30))).any()
    onset, offset = clip_interval([31.0, 10.0, np.nan], [40.0, np.nan, np.nan], 0, 30)
    np.testing.assert_array_equal(onset, [np.nan, 10, np.nan])
    np.testing.assert_array_equal(offset, [np.nan, 30, np.nan])

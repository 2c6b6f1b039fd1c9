from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from temmed.errors import InputError
from temmed.metrics.functional.onset_windows import Onsets, Windows, best_threshold, onset_windows

Row = tuple[str, str, float, float]


def onsets(rows: Sequence[Row]) -> Onsets:
    sequence, label, lower, upper = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Onsets(np.array(sequence), np.array(label), np.array(lower, float), np.array(upper, float))


def window_by_window(
    truths: Sequence[Row], predictions: Sequence[Row], scores: Sequence[float], width: float, stride: float
) -> list[tuple[str, bool, float]]:
    """The definition, one window after the other."""
    found = []
    for sequence, label in sorted({row[:2] for row in [*truths, *predictions]}):
        for k in range(int(60 / stride)):
            start, end = k * stride, k * stride + width
            limits = [row[2:] for row in truths if row[:2] == (sequence, label)]
            inside = any(start <= low and high < end for low, high in limits)
            straddles = any(low < end and high >= start for low, high in limits) and not inside
            told = [
                score
                for row, score in zip(predictions, scores, strict=True)
                if row[:2] == (sequence, label) and start <= row[2] < end
            ]
            if not straddles and (inside or told):
                found.append((sequence, inside, max(told, default=-np.inf)))
    return found


def draw(rng: np.random.Generator, n: int, widest: float) -> list[Row]:
    """Halves and quarters, so that times fall on edges too."""
    lows, widths = rng.integers(0, 80, n) / 4, rng.integers(0, int(4 * widest) + 1, n) / 4
    rows = [
        (f"s{rng.integers(2)}", str(rng.choice(["a", "b"])), low, low + width)
        for low, width in zip(lows.tolist(), widths.tolist(), strict=True)
    ]
    return [(s, label, -np.inf if widest and rng.random() < 0.1 else low, high) for s, label, low, high in rows]


def test_equals_looking_at_each_window() -> None:
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(1000):
        truths, predictions = draw(rng, int(rng.integers(0, 5)), 3.0), draw(rng, int(rng.integers(0, 6)), 0.0)
        scores = rng.integers(0, 5, len(predictions)).astype(float)
        width, stride = float(rng.choice([0.5, 1, 2.5, 4])), float(rng.choice([0.5, 1, 3]))
        found = onset_windows(onsets(truths), onsets(predictions), scores, width=width, stride=stride)
        expected = window_by_window(truths, predictions, scores, width, stride)
        assert list(zip(found.sequence, found.positive, found.score, strict=True)) == expected
        seen += [positive for _, positive, _ in expected]
    assert 500 < sum(seen) < len(seen) - 500


def test_by_hand() -> None:
    # Windows [0, 2), [1, 3), [2, 4), …: (2, 3] lies inside [2, 4) alone; 3 straddles the end of [1, 3).
    found = onset_windows(onsets([("s", "a", 2, 3)]), onsets([("s", "a", 3.5, 3.5)]), [0.7], width=2, stride=1)
    assert found.positive.tolist() == [True]
    assert found.score.tolist() == [0.7]
    # [3, 5) holds the prediction and is ignored, since the onset may be at 3.
    exact = onset_windows(onsets([("s", "a", 2.5, 2.5)]), onsets([("s", "a", 3.5, 3.5)]), [0.7], width=2, stride=1)
    # [1, 3) is missed, [2, 4) is told, [3, 5) is a false alarm.
    assert exact.positive.tolist() == [True, True, False]
    assert exact.score.tolist() == [-np.inf, 0.7, 0.7]


def test_one_sure_onset_makes_a_window_positive_whatever_straddles_it() -> None:
    truths = [("s", "a", 1.0, 1.5), ("s", "a", 1.6, 9.0)]
    found = onset_windows(onsets(truths), onsets([]), [], width=2, stride=2)
    assert found.positive.tolist() == [True]


def test_an_event_that_was_there_from_the_start_is_ignored() -> None:
    found = onset_windows(onsets([("s", "a", -np.inf, 0)]), onsets([("s", "a", 0, 0)]), [1.0], width=2, stride=1)
    assert len(found.positive) == 0


def test_times_just_beside_an_edge_are_on_it() -> None:
    third = 1 / 3
    assert 1 - 2 * third != third
    for moment in (third, 1 - 2 * third):
        found = onset_windows(onsets([("s", "a", moment, moment)]), onsets([]), [], width=third, stride=third)
        assert len(found.positive) == 1


def test_a_missing_score_is_the_least_and_still_a_claim() -> None:
    found = onset_windows(
        onsets([]), onsets([("s", "a", 1, 1), ("s", "a", 1.5, 1.5)]), [np.nan, -3.0], width=2, stride=2
    )
    assert found.score.tolist() == [-3.0]
    found = onset_windows(onsets([]), onsets([("s", "a", 1, 1)]), [np.nan], width=2, stride=2)
    assert np.isfinite(found.score).all()


@given(st.integers(0, 2**32 - 1))
def test_threshold_is_the_best_of_the_curve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive, score = rng.random(30) < 0.4, rng.integers(0, 8, 30).astype(float)
    positive[0] = True
    windows = Windows(np.zeros(30, dtype=object), positive, np.where(rng.random(30) < 0.2, -np.inf, score))
    windows.score[1] = 3.0
    # No prediction is one below all others, at which nobody would set the threshold.
    precision, recall, thresholds = precision_recall_curve(positive, np.maximum(windows.score, -1))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    possible = {threshold: value for threshold, value in zip(thresholds, f1[:-1], strict=True) if threshold >= 0}
    found = best_threshold(windows)
    assert possible[found] == pytest.approx(max(possible.values()))
    assert found == max(threshold for threshold, value in possible.items() if value > max(possible.values()) - 1e-9)


def test_nothing_to_find_or_nothing_found_needs_no_threshold() -> None:
    for positive, score in (([False], [1.0]), ([True], [-np.inf]), ([], [])):
        windows = Windows(np.zeros(len(positive), dtype=object), np.array(positive, dtype=bool), np.array(score))
        assert best_threshold(windows) == -np.inf


def test_wrong_windows_are_refused() -> None:
    with pytest.raises(InputError, match="above 0"):
        onset_windows(onsets([]), onsets([]), [], width=0, stride=1)
    with pytest.raises(InputError, match="onset of -2"):
        onset_windows(onsets([]), onsets([("s", "a", -2, -2)]), [1.0], width=1, stride=1)

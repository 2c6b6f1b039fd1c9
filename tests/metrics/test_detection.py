from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temmed.metrics.functional.detection import (
    ACTIVITYNET_THRESHOLDS,
    average_precision,
    detect,
    mean_average_precision,
)
from temmed.metrics.functional.intervals import Intervals, interval_iou

THRESHOLDS = np.array([0.1, 0.3, 0.5, 0.75, 0.95])
Row = tuple[str, str, float, float]


def intervals(rows: Sequence[Row]) -> Intervals:
    sequence, label, onset, offset = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Intervals(np.array(sequence), np.array(label), np.array(onset, float), np.array(offset, float))


def protocol(
    truths: Sequence[Row], predictions: Sequence[Row], scores: Sequence[float], threshold: float
) -> dict[str, float]:
    """ActivityNet's average precision, from its definition: one prediction after the other, then the curve.

    Scores must differ.
    """

    def iou(a: Row, b: Row) -> float:
        overlap = max(0.0, min(a[3], b[3]) - max(a[2], b[2]))
        return overlap / ((a[3] - a[2]) + (b[3] - b[2]) - overlap)

    found = {}
    for label in sorted({row[1] for row in truths}):
        free = [row for row in truths if row[1] == label]
        total, right, wrong, points = len(free), 0, 0, [(0.0, 0.0)]
        ranked = sorted(zip(scores, predictions, strict=True), key=lambda pair: -pair[0])
        for _, prediction in ranked:
            if prediction[1] != label:
                continue
            near = [row for row in free if row[0] == prediction[0] and iou(row, prediction) >= threshold]
            if near:
                free.remove(max(near, key=lambda row: iou(row, prediction)))
                right += 1
            else:
                wrong += 1
            points.append((right / total, right / (right + wrong)))
        area = 0.0
        for index in range(1, len(points)):
            area += (points[index][0] - points[index - 1][0]) * max(precision for _, precision in points[index:])
        found[label] = area
    return found


def draw(rng: np.random.Generator, n: int, labels: str = "abc", sequences: int = 3) -> list[Row]:
    starts, lengths = rng.uniform(0, 20, n), rng.uniform(0.5, 10, n)
    return [
        (f"s{rng.integers(sequences)}", str(rng.choice(list(labels))), start, start + length)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]


def test_equals_going_through_the_protocol() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1000):
        truths = draw(rng, int(rng.integers(1, 15)))
        # A label without a truth, and a sequence without one, come up too.
        predictions = draw(rng, int(rng.integers(0, 20)), "abcd", 4)
        predictions += [
            (s, label, on + rng.normal(0, 0.5), off + rng.normal(0, 0.2) + 1.5)
            for s, label, on, off in truths
            if rng.random() < 0.7
        ]
        scores = rng.permutation(len(predictions)).astype(float)
        found = detect(intervals(truths), intervals(predictions), scores, THRESHOLDS)
        precisions = average_precision(found)
        expected = [protocol(truths, predictions, scores, threshold) for threshold in THRESHOLDS]
        assert list(found.labels) == list(expected[0])
        np.testing.assert_allclose(precisions.T, [list(each.values()) for each in expected], atol=1e-12)
        np.testing.assert_allclose(
            mean_average_precision(precisions), [np.mean(list(each.values())) for each in expected], atol=1e-12
        )


def test_many_rivals_for_a_few_truths() -> None:
    # All in one sequence: long chains of predictions that lose a truth and ask for the next.
    rng = np.random.default_rng(1)
    truths = [("s", "a", float(start), float(start) + 10) for start in range(12)]
    predictions = [("s", "a", start, start + 10) for start in rng.uniform(-2, 14, 120)]
    scores = rng.permutation(120).astype(float)
    found = average_precision(detect(intervals(truths), intervals(predictions), scores, THRESHOLDS))
    for column, threshold in enumerate(THRESHOLDS):
        assert found[0, column] == pytest.approx(protocol(truths, predictions, scores, threshold)["a"])


def test_by_hand() -> None:
    truths = intervals([("s", "a", 0, 10), ("s", "a", 20, 30), ("t", "a", 0, 10)])
    # A hit, a second claim on the same truth, one just at the threshold of 0.5, and one in the wrong sequence.
    given = intervals([("s", "a", 0, 10), ("s", "a", 1, 10), ("s", "a", 20, 25), ("t", "a", 20, 30)])
    found = average_precision(detect(truths, given, [0.9, 0.8, 0.7, 0.6], [0.5, 0.6]))
    # Recall 1/3 at precision 1; 2/3 at 2/3.
    np.testing.assert_allclose(found, [[1 / 3 + 1 / 3 * 2 / 3, 1 / 3]])


def test_precision_is_interpolated() -> None:
    truths = intervals([("s", "a", 0, 10), ("s", "a", 20, 30)])
    given = intervals([("s", "a", 50, 60), ("s", "a", 0, 10), ("s", "a", 20, 30)])
    found = average_precision(detect(truths, given, [3, 2, 1], [0.5]))
    # Precision is 0, 1/2, 2/3; what comes later lifts what came before.
    np.testing.assert_allclose(found, [[2 / 3]])


def test_a_prediction_whose_truth_is_taken_takes_the_next_best() -> None:
    truths = intervals([("s", "a", 0, 10), ("s", "a", 4, 14)])
    given = intervals([("s", "a", 0, 10), ("s", "a", 1, 11)])
    np.testing.assert_array_equal(detect(truths, given, [2, 1], [0.5, 0.6]).hits, [[True, True], [True, False]])


def test_labels_without_truth_or_without_prediction() -> None:
    truths = intervals([("s", "a", 0, 10), ("s", "b", 0, 10)])
    given = intervals([("s", "a", 0, 10), ("s", "c", 0, 10), ("u", "c", 0, 10)])
    found = detect(truths, given, [1, 2, 3], [0.5])
    assert found.labels.tolist() == ["a", "b"]
    assert average_precision(found).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("rows", [[], [("s", "a", 0.0, 1.0)]])
def test_no_truth_is_not_a_number(rows: list[Row]) -> None:
    found = average_precision(detect(intervals([]), intervals(rows), np.zeros(len(rows)), THRESHOLDS))
    assert found.shape == (0, len(THRESHOLDS))
    assert np.isnan(mean_average_precision(found)).all()


def test_no_prediction_is_zero() -> None:
    found = average_precision(detect(intervals([("s", "a", 0.0, 1.0)]), intervals([]), [], THRESHOLDS))
    assert found.tolist() == [[0.0] * len(THRESHOLDS)]


def test_equal_scores_enter_together() -> None:
    truths = intervals([("s", "a", 0, 10)])
    given = intervals([("s", "a", 40, 50), ("s", "a", 0, 10)])
    # Right and wrong at one score: a precision of one half, in whatever order they stand.
    assert average_precision(detect(truths, given, [1, 1], [0.5])).item() == 0.5
    assert average_precision(detect(truths, given, [2, 1], [0.5])).item() == 0.5
    assert average_precision(detect(truths, given, [1, 2], [0.5])).item() == 1.0
    # No score at all is one score; beside others it is the least.
    assert average_precision(detect(truths, given, [np.nan, np.nan], [0.5])).item() == 0.5
    assert average_precision(detect(truths, given, [np.nan, -5], [0.5])).item() == 1.0


@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_and_monotone_scores_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths, predictions = draw(rng, 12), draw(rng, 25)
    scores = rng.integers(0, 4, 25).astype(float)
    expected = average_precision(detect(intervals(truths), intervals(predictions), scores, THRESHOLDS))
    first, second = rng.permutation(12), rng.permutation(25)
    shuffled = [truths[index] for index in first], [predictions[index] for index in second]
    again = detect(intervals(shuffled[0]), intervals(shuffled[1]), np.exp(scores[second]), THRESHOLDS)
    np.testing.assert_allclose(average_precision(again), expected, atol=1e-12)
    assert (np.diff(expected, axis=1) <= 1e-12).all()
    assert ((expected >= 0) & (expected <= 1)).all()


def test_weights_are_repetitions_of_sequences() -> None:
    rng = np.random.default_rng(2)
    truths, predictions = draw(rng, 20), draw(rng, 60)
    scores = rng.integers(0, 30, 60).astype(float)
    times = {"s0": 2, "s1": 0, "s2": 3}
    found = detect(intervals(truths), intervals(predictions), scores, THRESHOLDS)
    weights = [np.array([[1, times[row[0]]] for row in rows]).T for rows in (predictions, truths)]
    weighted = average_precision(found, *weights)
    np.testing.assert_allclose(weighted[0], average_precision(found))

    def repeated(rows: list[Row]) -> list[tuple[int, Row]]:
        return [
            (number, (f"{row[0]}/{copy}", *row[1:])) for number, row in enumerate(rows) for copy in range(times[row[0]])
        ]

    copies = repeated(predictions)
    longer = detect(
        intervals([row for _, row in repeated(truths)]),
        intervals([row for _, row in copies]),
        scores[[number for number, _ in copies]],
        THRESHOLDS,
    )
    expected = dict(zip(longer.labels, average_precision(longer), strict=True))
    for label, value in zip(found.labels, weighted[1], strict=True):
        np.testing.assert_allclose(value, expected.get(label, np.full(len(THRESHOLDS), np.nan)), atol=1e-12)


def test_portions_of_pairs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    truths, predictions, scores = intervals(draw(rng, 30)), intervals(draw(rng, 90)), rng.random(90)
    whole = detect(truths, predictions, scores, THRESHOLDS)
    monkeypatch.setattr("temmed.metrics.functional.detection._PAIRS", 7)
    np.testing.assert_array_equal(detect(truths, predictions, scores, THRESHOLDS).hits, whole.hits)


def test_thresholds_of_activitynet() -> None:
    np.testing.assert_allclose(ACTIVITYNET_THRESHOLDS, [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    # An overlap of exactly one half reaches the first.
    assert interval_iou(0, 10, 0, 5) >= ACTIVITYNET_THRESHOLDS[0]

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import permutations
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import sed_eval_peer
from temmed.errors import InputError
from temmed.metrics.functional.intervals import Intervals
from temmed.metrics.functional.sound_events import Counted, Tally, event_based, rates, segment_based

LABELS = ["a", "b", "c"]
Row = tuple[str, str, float, float]


@pytest.fixture(scope="module")
def sed() -> ModuleType:
    if find_spec("sed_eval") is None:
        # dcase_util, which it needs, brings a package "tests" that would stand before this one.
        pytest.skip("sed_eval is not installed; install it with --target into a folder at the end of PYTHONPATH")
    return sed_eval_peer.load().sound_event


def intervals(rows: Sequence[Row]) -> Intervals:
    sequence, label, onset, offset = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Intervals(np.array(sequence), np.array(label), np.array(onset, float), np.array(offset, float))


def draw(rng: np.random.Generator, n: int) -> list[Row]:
    starts, lengths = rng.uniform(0, 12, n), rng.uniform(0.1, 4, n)
    return [
        (f"s{rng.integers(2)}", str(rng.choice(LABELS)), start, start + length)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]


def heard(rng: np.random.Generator, truths: Sequence[Row], jitter: float) -> list[Row]:
    """Most of the truths, moved a little, some under another label."""
    found = []
    for sequence, label, onset, offset in truths:
        if rng.random() < 0.8:
            start = max(0.0, onset + rng.uniform(-jitter, jitter))
            end = max(start + 0.05, offset + rng.uniform(-jitter, jitter))
            found.append((sequence, str(rng.choice(LABELS)) if rng.random() < 0.3 else label, start, end))
    return found


def spread(rng: np.random.Generator, n: int) -> list[Row]:
    """Truths so far apart that a prediction is near one of them at most."""
    return [
        (f"s{number % 2}", str(rng.choice(LABELS)), 20.0 * number + start, 20.0 * number + start + length)
        for number, (start, length) in enumerate(rng.uniform(0.5, 4, (n, 2)).tolist())
    ]


def assert_rates_agree(tally: Tally, f_measure: dict, n_true: float, n_predicted: float) -> None:
    found = rates(tally)
    np.testing.assert_allclose(found.precision, f_measure["precision"], atol=1e-6)
    np.testing.assert_allclose(found.recall, f_measure["recall"], atol=1e-6)
    if np.isnan(f_measure["f_measure"]):
        assert n_true == 0 or n_predicted == 0
        np.testing.assert_equal(found.f1, np.nan if n_true == n_predicted == 0 else 0.0)
    else:
        np.testing.assert_allclose(found.f1, f_measure["f_measure"], atol=1e-6)


def assert_agrees(counted: Counted, peer: Any) -> None:
    """All of sed_eval's scores but its error rate over all labels."""
    overall = peer.overall
    assert_rates_agree(counted.by_sequence.total(), peer.overall_f_measure(), overall["Nref"], overall["Nsys"])
    for index, label in enumerate(counted.labels):
        of_label = Tally(*(counts[index] for counts in counted.by_label))
        n = peer.class_wise[label]
        assert_rates_agree(of_label, peer.class_wise_f_measure(label), n["Nref"], n["Nsys"])
        if n["Nref"]:
            expected = peer.class_wise_error_rate(label)["error_rate"]
            np.testing.assert_allclose(rates(of_label).error_rate, expected, atol=1e-6)
        else:
            assert np.isnan(rates(of_label).error_rate)
    assert set(counted.labels) == {label for label, n in peer.class_wise.items() if n["Nref"] + n["Nsys"]}


@pytest.mark.slow
def test_event_based_equals_sed_eval(sed: ModuleType) -> None:
    rng = np.random.default_rng(0)
    substitutions = 0.0
    for case in range(1000):
        truths = spread(rng, int(rng.integers(1, 7)))
        predictions = heard(rng, truths, 0.8)
        options = {"t_collar": float(rng.uniform(0.05, 0.6)), "percentage_of_length": float(rng.uniform(0, 0.6))}
        ends = [(True, True), (True, False), (False, True)][case % 3]
        peer = sed.EventBasedMetrics(LABELS, evaluate_onset=ends[0], evaluate_offset=ends[1], **options)
        sed_eval_peer.evaluate(peer, sed_eval_peer.files(intervals(truths), intervals(predictions)))
        counted = event_based(intervals(truths), intervals(predictions), onset=ends[0], offset=ends[1], **options)
        assert_agrees(counted, peer)
        expected = peer.overall_error_rate()["error_rate"]
        np.testing.assert_allclose(rates(counted.by_sequence.total()).error_rate, expected, atol=1e-6)
        substitutions += counted.by_sequence.substitutions.sum()
    assert substitutions > 100


@pytest.mark.slow
def test_crowded_events_equal_sed_eval_but_for_substitutions(sed: ModuleType) -> None:
    # Many events agree with many: hits are those of sed_eval, substitutions at least its own.
    rng = np.random.default_rng(1)
    more = 0
    for _ in range(1000):
        truths = draw(rng, int(rng.integers(1, 9)))
        predictions = heard(rng, truths, 1.0) + draw(rng, int(rng.integers(0, 4)))
        options = {"t_collar": float(rng.uniform(0.5, 3)), "percentage_of_length": 0.5}
        peer = sed.EventBasedMetrics(LABELS, **options)
        sed_eval_peer.evaluate(peer, sed_eval_peer.files(intervals(truths), intervals(predictions)))
        counted = event_based(intervals(truths), intervals(predictions), **options)
        assert_agrees(counted, peer)
        extra = counted.by_sequence.substitutions.sum() - peer.overall["Nsubs"]
        assert extra >= 0
        more += extra > 0
    assert 0 < more < 200


def test_substitutions_are_the_most_there_can_be() -> None:
    # Against every way to pair a few events.
    rng = np.random.default_rng(2)
    for _ in range(1000):
        truths = [("s", *row[1:]) for row in draw(rng, int(rng.integers(1, 5)))]
        predictions = [("s", *row[1:]) for row in draw(rng, int(rng.integers(1, 6)))]
        collar = float(rng.uniform(1, 6))
        counted = event_based(intervals(truths), intervals(predictions), t_collar=collar, offset=False).by_sequence
        best = (0, 0)
        slots: list[Row | None] = [*predictions, *[None] * len(truths)]
        for chosen in permutations(range(len(slots)), len(truths)):
            pairs = [
                (true, slots[slot])
                for true, slot in zip(truths, chosen, strict=True)
                if slots[slot] is not None and abs(true[2] - slots[slot][2]) <= collar
            ]
            alike = sum(true[1] == other[1] for true, other in pairs)
            best = max(best, (alike, len(pairs) - alike))
        assert (counted.hits.sum(), counted.substitutions.sum()) == best


def test_sed_eval_counts_substitutions_in_the_order_of_rows(sed: ModuleType) -> None:
    # Two events of label a; one predicted under each of the labels b and c. The first prediction is near both events,
    # the second near the first event alone: two substitutions can be had, and sed_eval finds one or two of them.
    truths = [("s", "a", 1.0, 2.0), ("s", "a", 1.4, 2.0)]
    predictions = [("s", "b", 1.2, 2.0), ("s", "c", 0.7, 2.0)]
    options = {"t_collar": 0.35, "percentage_of_length": 0.5}

    def by_sed_eval(rows: list[Row]) -> float:
        peer = sed.EventBasedMetrics(LABELS, **options)
        sed_eval_peer.evaluate(peer, sed_eval_peer.files(intervals(truths), intervals(rows)))
        return peer.overall_error_rate()["error_rate"]

    assert [by_sed_eval(predictions), by_sed_eval(predictions[::-1])] == pytest.approx([1.5, 1.0])
    for rows in (predictions, predictions[::-1]):
        assert rates(event_based(intervals(truths), intervals(rows), **options).by_sequence.total()).error_rate == 1.0


def test_sed_eval_leaves_labels_out_of_which_nothing_was_found(sed: ModuleType) -> None:
    truths, predictions = [("s", "a", 0.0, 1.0), ("s", "b", 0.0, 1.0)], [("s", "a", 0.0, 1.0)]
    peer = sed.EventBasedMetrics(["a", "b"])
    sed_eval_peer.evaluate(peer, sed_eval_peer.files(intervals(truths), intervals(predictions)))
    assert peer.results_class_wise_average_metrics()["f_measure"]["f_measure"] == 1.0
    assert rates(event_based(intervals(truths), intervals(predictions)).by_label).f1.tolist() == [1.0, 0.0]
    # Nothing to be found: sed_eval divides by the least positive number.
    peer = sed.EventBasedMetrics(["a"])
    sed_eval_peer.evaluate(peer, sed_eval_peer.files(intervals([]), intervals(predictions)))
    assert peer.overall_error_rate()["error_rate"] > 1e15
    nothing = rates(event_based(intervals([]), intervals(predictions)).by_sequence.total())
    np.testing.assert_equal(list(nothing), [0.0, 0.0, np.nan, np.nan])


def test_a_difference_of_exactly_the_collar_agrees(sed: ModuleType) -> None:
    truths, predictions = [("s", "a", 3.0, 9.0)], [("s", "a", 3.2, 9.0)]
    assert 3.2 - 3.0 > 0.2
    peer = sed.EventBasedMetrics(["a"])
    sed_eval_peer.evaluate(peer, sed_eval_peer.files(intervals(truths), intervals(predictions)))
    assert peer.overall["Ntp"] == 0
    assert event_based(intervals(truths), intervals(predictions)).by_sequence.hits.tolist() == [1.0]


@pytest.mark.slow
def test_segment_based_equals_sed_eval(sed: ModuleType) -> None:
    rng = np.random.default_rng(3)
    for _ in range(1000):
        truths = draw(rng, int(rng.integers(1, 7)))
        predictions = heard(rng, truths, 1.0) + draw(rng, int(rng.integers(0, 3)))
        resolution = float(rng.uniform(0.3, 2))
        peer = sed.SegmentBasedMetrics(LABELS, time_resolution=resolution)
        sed_eval_peer.evaluate(peer, sed_eval_peer.files(intervals(truths), intervals(predictions)))
        counted = segment_based(intervals(truths), intervals(predictions), time_resolution=resolution)
        assert_agrees(counted, peer)
        total = counted.by_sequence.total()
        np.testing.assert_allclose(rates(total).error_rate, peer.overall_error_rate()["error_rate"], atol=1e-6)
        assert total.substitutions == peer.overall["S"]


def test_segments_of_instants_and_of_rounded_borders(sed: ModuleType) -> None:
    # An instant inside a segment makes it active; in sed_eval one on a border makes none active.
    instants = [("s", "a", 1.5, 1.5), ("s", "a", 3.0, 3.0)]
    peer = sed.SegmentBasedMetrics(["a"])
    sed_eval_peer.evaluate(peer, sed_eval_peer.files(intervals(instants), intervals([("s", "a", 0.0, 5.0)])))
    assert peer.overall["Nref"] == 1
    assert segment_based(intervals(instants), intervals([])).by_sequence.n_true.tolist() == [2.0]
    # From 0.6 in segments of 0.2 is from the fourth segment on, though 0.6 / 0.2 is just below 3.
    assert 0.6 / 0.2 < 3
    late = [("s", "a", 0.6, 0.8)]
    peer = sed.SegmentBasedMetrics(["a"], time_resolution=0.2)
    sed_eval_peer.evaluate(peer, sed_eval_peer.files(intervals(late), intervals(late)))
    assert peer.overall["Nref"] == 2
    assert segment_based(intervals(late), intervals(late), time_resolution=0.2).by_sequence.n_true.tolist() == [1.0]


def test_segments_by_hand() -> None:
    truths = [("s", "a", 0.0, 3.0), ("s", "a", 2.0, 4.0), ("t", "b", 0.0, 1.0)]
    predictions = [("s", "b", 0.0, 2.0), ("s", "a", 2.5, 6.0)]
    counted = segment_based(intervals(truths), intervals(predictions))
    # s: a true in segments 0 to 3, a given in 2 to 5, b given in 0 and 1: two hits, two substitutions.
    assert counted.sequences.tolist() == ["s", "t"]
    assert [list(counts) for counts in counted.by_sequence] == [[4, 1], [6, 0], [2, 0], [2, 0]]
    assert [list(counts) for counts in counted.by_label] == [[4, 1], [4, 2], [2, 0], [0, 0]]
    assert float(rates(counted.by_sequence.total()).error_rate) == pytest.approx((2 + 1 + 2) / 5)


@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_changes_nothing_and_a_wider_collar_loses_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths, predictions = draw(rng, 10), draw(rng, 12)
    first, second = [truths[i] for i in rng.permutation(10)], [predictions[i] for i in rng.permutation(12)]
    narrow = event_based(intervals(truths), intervals(predictions), t_collar=1.0)
    again = event_based(intervals(first), intervals(second), t_collar=1.0)
    wide = event_based(intervals(truths), intervals(predictions), t_collar=2.0)
    np.testing.assert_array_equal(np.stack(narrow.by_sequence), np.stack(again.by_sequence))
    assert (wide.by_sequence.hits >= narrow.by_sequence.hits).all()
    cut, cut_again = (segment_based(intervals(a), intervals(b)) for a, b in ((truths, predictions), (first, second)))
    np.testing.assert_array_equal(np.stack(cut.by_sequence), np.stack(cut_again.by_sequence))
    perfect = segment_based(intervals(truths), intervals(truths)).by_sequence.total()
    assert [float(score) for score in rates(perfect)] == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("count", [event_based, segment_based])
def test_nothing_at_all(count: Callable[..., Counted]) -> None:
    counted = count(intervals([]), intervals([]))
    assert len(counted.sequences) == len(counted.labels) == 0
    assert np.isnan(list(rates(counted.by_sequence.total()))).all()


@pytest.mark.parametrize(
    ("rows", "message"), [([("s", "a", np.nan, np.nan)], "truth, row 0"), ([("s", "a", 0.0, np.inf)], "finite times")]
)
def test_never_and_open_events_are_refused(rows: list[Row], message: str) -> None:
    for count in (event_based, segment_based):
        with pytest.raises(InputError, match=message):
            count(intervals(rows), intervals([]))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InputError, match="neither"):
        event_based(intervals([]), intervals([]), onset=False, offset=False)
    with pytest.raises(InputError, match="onset of -1"):
        segment_based(intervals([("s", "a", -1.0, 1.0)]), intervals([]))
    with pytest.raises(InputError, match="resolution of 0"):
        segment_based(intervals([("s", "a", 0.0, 1.0)]), intervals([]), time_resolution=0.0)

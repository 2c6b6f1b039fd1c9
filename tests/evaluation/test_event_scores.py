from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from temmed.evaluation import event_scores
from temmed.evaluation.benchmark import Benchmark
from temmed.evaluation.event_scores import event_estimates
from temmed.evaluation.events import judge_events
from temmed.evaluation.scoring import score
from temmed.evaluation.statistics import Estimate
from temmed.predictions.tables import Predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import make_split

NEVER = (np.nan,) * 4
Tables = tuple[pd.DataFrame, pd.DataFrame]


def truths(*rows: tuple) -> pd.DataFrame:
    """Events of sequences of 100 days with steps of 10; every sequence is of a patient of its own."""
    columns = ["sequence_id", "label", "onset_lower", "onset_upper", "offset_lower", "offset_upper"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(patient_id="p" + frame["sequence_id"], first=0.0, last=100.0, step=10.0, time_unit="day")


def predicted(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["sequence_id", "label", "onset", "offset", "score"])


def estimates(tables: Tables, validation: Tables | None = None, resamples: int = 100) -> dict[str, Estimate]:
    found = list(event_estimates(*tables, resamples, 0, validation))
    assert len(dict(found)) == len(found)
    return dict(found)


def random_tables(seed: int, sequences: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    events, claims = [], []
    for number in range(sequences):
        for label in "ab":
            onset, length = float(rng.uniform(5, 60)), float(rng.uniform(5, 30))
            happens = rng.random() < 0.8
            bounds = (onset - 5, onset + 5, onset + length + 5, onset + length + 15) if happens else NEVER
            events.append((f"s{number}", label, *bounds))
            for _ in range(rng.integers(0, 3)):
                start = max(0.0, onset + rng.normal(0, 8))
                claims.append((f"s{number}", label, start, start + length + rng.uniform(0, 10), float(rng.random())))
    return truths(*events), predicted(*claims)


@pytest.fixture
def by_hand() -> dict[str, Estimate]:
    events = truths(
        ("s0", "a", 20, 20, 60, 60), ("s0", "b", *NEVER), ("s1", "a", 30, 40, 100, 100), ("s1", "b", *NEVER)
    )
    # Half of the event; a false alarm; one that begins late and is open; nothing for b in s1.
    claims = predicted(("s0", "a", 20.0, 40.0, 0.9), ("s0", "b", 70.0, 90.0, 0.8), ("s1", "a", 51.0, np.nan, 0.7))
    return estimates(judge_events(events, claims))


@pytest.mark.parametrize(
    ("name", "value", "n"),
    [
        ("tiou", (20 / 40 + 49 / 65 + 0 + 1) / 4, 4),
        ("tiou_whole", (0.4 + 0.65 + 0 + 0) / 4, 4),
        ("false_alarm", 1 / 3, 3),
        ("onset_error_days", (0 + 11) / 2, 2),
        ("onset_width_days", (0 + 10) / 2, 2),
        ("offset_error_days", (20 + 0) / 2, 2),
        ("offset_width_days", 0.0, 2),
        ("never_precision", 1.0, 1),
        ("never_recall", 0.5, 2),
        # The first onset is exact and its offset within half of the length; the second is 16 days from its midpoint.
        ("event_based_precision", 1 / 3, 3),
        ("event_based_recall", 1 / 2, 2),
        ("event_based_f1", 2 / 5, 5),
        ("event_based_error_rate", (1 + 2) / 2, 2),
        # In segments of a step: 2 to 5 and 3 to 9 are true; 2 and 3, 7 and 8, and 5 to 9 predicted.
        ("segment_based_precision", (2 + 5) / 9, 9),
        ("segment_based_recall", (2 + 5) / 11, 11),
        ("segment_based_error_rate", (2 + 2 + 2) / 11, 11),
        # Of two events: the first is right at 0.5 and below, the false alarm has a label without events.
        ("average_precision/tiou=0.5", 1.0, 2),
        ("average_precision/tiou=0.6", 0.5 * 0.5, 2),
        ("average_precision/tiou=0.8", 0.0, 2),
        ("average_precision", (1 + 5 * 0.25) / 10, 2),
        # Windows of a step: [20, 30) holds the first onset and is told; s1's onset straddles all that it may lie in.
        ("window_recall/width=1", 1.0, 1),
        ("window_precision/width=1", 1 / 3, 3),
        # Of two: [10, 30) and [20, 40) of s0 are told; [30, 50) of s1, the one that holds its onset, is not. The alarms
        # at 70 and 51 make two windows each false; [40, 60) of s1 is ignored.
        ("window_recall/width=2", 2 / 3, 3),
        ("window_precision/width=2", 2 / (2 + 2 + 1), 5),
    ],
)
def test_by_hand(by_hand: dict[str, Estimate], name: str, value: float, n: int) -> None:
    assert by_hand[name].value == pytest.approx(value)
    assert by_hand[name].n == n


def test_nothing_is_told_of_what_is_not_there() -> None:
    found = estimates(judge_events(truths(("s0", "a", *NEVER), ("s1", "a", *NEVER)), predicted()))
    assert set(found) == {"tiou", "tiou_best", "tiou_worst", "tiou_whole"} | {
        f"never_{name}" for name in ("f1", "precision", "recall")
    }
    assert found["never_f1"].value == 1.0
    silent = estimates(judge_events(truths(("s0", "a", 0, 10, 20, 30)), predicted()))
    assert silent["average_precision"].value == silent["event_based_recall"].value == 0.0
    assert silent["never_precision"].value == 0.0
    assert not {"never_recall", "false_alarm", "onset_error_days", "event_based_precision"} & set(silent)


def test_instants_count_in_what_has_a_tolerance_alone() -> None:
    events = truths(("s0", "a", 40, 40, 40, 40), ("s1", "a", 40, 40, 40, 40))
    found = estimates(judge_events(events, predicted(("s0", "a", 49.0, 49.0, 1.0), ("s1", "a", 51.0, 51.0, 1.0))))
    assert found["event_based_f1"].value == 0.5
    assert not [name for name in found if name.startswith(("tiou", "average_precision"))]


def test_units_are_told_apart_and_steps_are_not() -> None:
    events, claims = random_tables(0)
    expected = estimates(judge_events(events, claims))
    # Every second sequence in weeks, or in milliseconds: other numbers for the same times.
    number = events["sequence_id"].str[1:].astype(int)
    given_number = claims["sequence_id"].str[1:].astype(int)
    times = ["onset_lower", "onset_upper", "offset_lower", "offset_upper", "first", "last", "step"]
    weeks = events.assign(time_unit=np.where(number % 2, "week", "day"))
    weeks[times] = events[times].to_numpy() / np.where(number % 2, 7.0, 1.0)[:, None]
    in_weeks = claims.assign(**{end: claims[end] / np.where(given_number % 2, 7.0, 1.0) for end in ("onset", "offset")})
    found = estimates(judge_events(weeks, in_weeks))
    assert set(found) == set(expected)
    for name, estimate in expected.items():
        assert list(found[name].as_dict().values()) == pytest.approx(list(estimate.as_dict().values()), nan_ok=True), (
            name
        )
    mixed = estimates(judge_events(events.assign(time_unit=np.where(number % 2, "millisecond", "day")), claims))
    assert mixed["onset_error_days"].n + mixed["onset_error_seconds"].n == expected["onset_error_days"].n
    assert mixed["event_based_f1"] == expected["event_based_f1"]


@settings(max_examples=20, deadline=None)
@drawn(st.integers(0, 2**32 - 1))
def test_order_of_rows_changes_nothing(seed: int) -> None:
    events, claims = random_tables(seed)
    expected = estimates(judge_events(events, claims), resamples=20)
    shuffled = events.sample(frac=1.0, random_state=0), claims.sample(frac=1.0, random_state=1)
    found = estimates(judge_events(*(table.reset_index(drop=True) for table in shuffled)), resamples=20)
    assert set(found) == set(expected)
    for name, estimate in expected.items():
        assert list(found[name].as_dict().values()) == pytest.approx(list(estimate.as_dict().values()), nan_ok=True), (
            name
        )


def test_intervals_hold_their_values() -> None:
    found = estimates(judge_events(*random_tables(1, 60)), resamples=500)
    assert len([name for name in found if "average_precision" in name]) == 10
    for name, estimate in found.items():
        assert estimate.low <= estimate.value <= estimate.high, name
        assert estimate.low < estimate.high or estimate.value in (0.0, 10.0), name


def test_resamples_of_average_precision_are_of_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    # A bootstrap the slow way: write out the sequences of the drawn patients, and score them.
    events, claims = random_tables(2)
    tables = judge_events(events, claims)
    found = estimates(tables, resamples=40)["average_precision"]
    resampler = event_scores.PatientResampler(events.drop_duplicates("sequence_id")["patient_id"], 40, 0)
    samples = []
    for weights in resampler.weights:
        copies: list[list[pd.DataFrame]] = [[], []]
        for patient, count in zip(resampler.patient_ids, weights, strict=True):
            for copy in range(count):
                name = patient[1:]
                for kept, table in zip(copies, (events, claims), strict=True):
                    rows = table[table["sequence_id"] == name]
                    kept.append(rows.assign(sequence_id=f"{name}/{copy}"))
        again = judge_events(*(pd.concat(kept, ignore_index=True) for kept in copies))
        samples.append(estimates(again, resamples=1)["average_precision"].value)
    expected = np.quantile(samples, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(expected.tolist())
    monkeypatch.setattr(event_scores, "_PORTION", 1)
    in_portions = estimates(tables, resamples=40)["average_precision"]
    assert in_portions.as_dict() == pytest.approx(found.as_dict())
    monkeypatch.setattr(event_scores, "_AFFORDABLE", 1)
    dear = estimates(tables, resamples=40)["average_precision"]
    assert dear.value == found.value
    assert np.isnan([dear.low, dear.high]).all()


def test_thresholds_of_windows_are_fitted_on_validation() -> None:
    # On both subsets what is said with little certainty is wrong.
    def tables(sequence: str) -> Tables:
        events = truths((sequence, "a", 20, 20, 100, 100), (sequence, "b", *NEVER))
        return judge_events(events, predicted((sequence, "a", 20, np.nan, 0.9), (sequence, "b", 50, np.nan, 0.3)))

    test, val = tables("s0"), tables("s1")
    without = estimates(test)
    assert without["window_precision/width=2"].value == 0.5
    assert not [name for name in without if name.startswith("window_threshold")]
    fitted = estimates(test, val)
    assert fitted["window_threshold/width=2"].value == 0.9
    assert fitted["window_precision/width=2"].value == fitted["window_recall/width=2"].value == 1.0
    # The threshold is that of the validation, whatever would be best on the test subset.
    surer = val[0], val[1].assign(score=val[1]["score"] + 1)
    assert estimates(test, surer)["window_recall/width=2"].value == 0.0


def test_an_event_that_was_there_before_belongs_to_no_window() -> None:
    tables = judge_events(truths(("s0", "a", 0, 0, 50, 50)), predicted(("s0", "a", 0.0, 50.0, 1.0)))
    assert not [name for name in estimates(tables) if name.startswith("window")]
    # But an instant on the first time point is one.
    tables = judge_events(truths(("s0", "a", 0, 0, 0, 0)), predicted(("s0", "a", 0.0, 0.0, 1.0)))
    assert estimates(tables)["window_f1/width=1"].value == 1.0


def test_validation_predictions_are_judged_on_their_own_subset(timeline: Timeline) -> None:
    split = make_split(timeline, "patient", 0, (0.2, 0.4, 0.4))

    def perfect(subset: str) -> Predictions:
        benchmark = Benchmark.build(timeline, split, subset)
        events = benchmark.events[benchmark.events["onset_upper"].notna()]
        middle = (events["onset_lower"] + events["onset_upper"]) / 2
        claims = events[["sequence_id", "label"]].assign(onset=middle, offset=events["last"], score=0.5)
        answers = benchmark.questions[["question_id", "answer", "value", "evidence"]]
        return Predictions(answers.assign(**dict.fromkeys(("probabilities", "confidence", "rationale"))), claims)

    found = score(timeline, split, "test", perfect("test"), resamples=10, validation=perfect("val"))
    for name in ("average_precision", "event_based_f1", "segment_based_f1", "never_f1", "window_f1/width=4"):
        assert found[f"test/event/{name}"]["value"] == 1.0, name
    assert found["test/event/window_threshold/width=4"]["value"] == 0.5
    assert found["test/event/onset_error_days"]["value"] == 0.0
    assert found["test/event/event_based_error_rate"]["value"] == 0.0

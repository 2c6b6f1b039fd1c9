from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from temmed.evaluation.events import event_truths, judge_events
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, make_split


def truths(*rows: tuple) -> pd.DataFrame:
    columns = ["sequence_id", "label", "onset_lower", "onset_upper", "offset_lower", "offset_upper"]
    return pd.DataFrame(rows, columns=columns).assign(patient_id="p", first=0.0, last=100.0, step=10.0, time_unit="day")


def predicted(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["sequence_id", "label", "onset", "offset"]).assign(score=1.0)


NEVER = (np.nan,) * 4


def test_truths_are_those_of_the_subset_and_censored(timeline: Timeline, split: Split) -> None:
    found = event_truths(timeline, split, "test")
    assert set(found["sequence_id"]) == set(split.sequences("test")["sequence_id"])
    happens = found[found["label"] == "disc"]
    assert (happens["offset_upper"] == happens["last"]).all()
    assert (happens["onset_lower"] >= 0).all()
    assert found.loc[found["label"] == "square", "onset_upper"].isna().all()
    clock = timeline.table("timepoints").sort_values("position").groupby("sequence_id")["time"]
    expected = clock.apply(lambda times: np.median(np.diff(times)))
    assert found["step"].tolist() == expected[found["sequence_id"]].tolist()
    assert set(found["time_unit"]) == {"day"}


def test_events_after_the_subset_are_not_yet_there(timeline: Timeline) -> None:
    by_time = make_split(timeline, "time")
    early = event_truths(timeline, by_time, "train").set_index(["sequence_id", "label"])
    whole = timeline.table("events").set_index(["sequence_id", "label"])
    late = (whole["onset_lower"] >= early["last"]).loc[lambda rows: rows].index
    assert len(late)
    assert early.loc[late, "onset_upper"].isna().all()


def test_a_split_by_time_scores_each_change_once(timeline: Timeline) -> None:
    by_time = make_split(timeline, "time")
    clock = timeline.table("timepoints").set_index(["sequence_id", "position"])["time"]
    whole = timeline.table("events").set_index(["sequence_id", "label"])
    onsets = 0
    for subset in ("train", "val", "test"):
        owned = by_time.sequences(subset).set_index("sequence_id")
        for row in event_truths(timeline, by_time, subset).itertuples():
            first = owned.at[row.sequence_id, "first_asked"]
            assert row.first == clock[row.sequence_id, max(first - 1, 0)]
            assert row.last == clock[row.sequence_id, owned.at[row.sequence_id, "last_asked"]]
            truth = whole.loc[(row.sequence_id, row.label)]
            if row.first < truth["onset_upper"] <= row.last:
                assert (row.onset_lower, row.onset_upper) == (truth["onset_lower"], truth["onset_upper"])
                onsets += 1
            else:
                # It was there when the subset's time began, is not there yet, or never is.
                assert row.onset_upper == row.first or np.isnan(row.onset_upper)
    assert onsets == (whole["onset_upper"] > 0).sum() > 10


def test_what_is_over_before_a_subset_begins_is_no_matter_of_it() -> None:
    # As `event_truths` gives it where the subset's time begins at 40: over (never), still on, and new.
    later = truths(("s0", "a", *NEVER), ("s0", "b", 40, 40, 100, 100), ("s0", "c", 40, 60, 100, 100))
    given = predicted(("s0", "a", 5.0, 30.0), ("s0", "b", 20.0, np.nan), ("s0", "c", 50.0, np.nan))
    judged, intervals = judge_events(later.assign(first=40.0), given)
    assert judged["tiou"].tolist() == [1.0, 1.0, 1.0]
    assert intervals["label"].tolist() == ["b", "c"]


def test_matching_by_label_and_sequence() -> None:
    true = truths(("s0", "a", 0, 0, 50, 50), ("s0", "b", *NEVER), ("s1", "a", 0, 0, 50, 50))
    given = predicted(("s0", "a", 0.0, 50.0), ("s0", "b", 10.0, 20.0), ("s0", "c", 1.0, 2.0))
    judged, intervals = judge_events(true, given)
    assert judged["tiou"].tolist() == [1.0, 0.0, 0.0]
    assert intervals["false_alarm"].tolist() == [0.0, 1.0, 1.0]


def test_saying_never_is_a_prediction_and_so_is_saying_nothing() -> None:
    true = truths(("s0", "a", *NEVER), ("s0", "b", *NEVER), ("s0", "c", 0, 0, 50, 50))
    judged, intervals = judge_events(true, predicted(("s0", "a", np.nan, np.nan), ("s0", "c", np.nan, np.nan)))
    assert judged["tiou"].tolist() == [1.0, 1.0, 0.0]
    assert intervals.empty


def test_several_events_of_one_label_are_paired_for_the_best() -> None:
    true = truths(("s0", "a", 0, 0, 20, 20), ("s0", "a", 50, 50, 70, 70))
    given = predicted(("s0", "a", 55.0, 70.0), ("s0", "a", 0.0, 10.0), ("s0", "a", 90.0, 95.0))
    judged, intervals = judge_events(true, given)
    assert judged["tiou"].tolist() == pytest.approx([0.5, 0.75])
    assert intervals["false_alarm"].tolist() == [0.0, 0.0, 1.0]


def test_of_equal_overlaps_the_nearest_is_the_partner() -> None:
    # None of the three overlaps the truth; the second lies nearest to it.
    true = truths(("s0", "a", 40, 40, 50, 50))
    given = predicted(("s0", "a", 0.0, 5.0), ("s0", "a", 52.0, 60.0), ("s0", "a", 90.0, 95.0))
    for rows in (given, given.iloc[::-1]):
        judged, _ = judge_events(true, rows)
        assert judged[["tiou", "onset_error", "offset_error"]].to_numpy().tolist() == [[0.0, 12.0, 10.0]]


def test_errors_are_distances_to_the_bounds_in_the_canonical_unit() -> None:
    true = truths(("s0", "a", 0, 10, 40, 60), ("s0", "b", 0, 10, 40, 60), ("s0", "c", *NEVER), ("s0", "d", 0, 1, 2, 3))
    given = predicted(("s0", "a", 4.0, 70.0), ("s0", "b", 13.0, 38.0), ("s0", "c", 1.0, 2.0))
    judged, _ = judge_events(true.assign(time_unit="week"), given)
    found = judged[["onset_error", "onset_width", "offset_error", "offset_width"]].to_numpy() / 7
    nothing = [np.nan] * 4
    np.testing.assert_allclose(found, [[0, 10, 10, 20], [3, 10, 2, 20], nothing, nothing])


def test_an_open_event_is_clipped_before_its_errors_are_taken() -> None:
    judged, _ = judge_events(truths(("s0", "a", 0, 10, 100, 100)), predicted(("s0", "a", 4.0, np.nan)))
    assert judged[["offset_error", "offset_width"]].to_numpy().tolist() == [[0.0, 0.0]]


def test_instants_have_no_overlap_and_are_found_within_a_step() -> None:
    true = truths(("s0", "a", 40, 40, 40, 40), ("s0", "b", 40, 40, 40, 40), ("s0", "c", 40, 50, 40, 50))
    given = predicted(("s0", "a", 31.0, 31.0), ("s0", "b", 29.0, 29.0), ("s0", "c", 45.0, 55.0))
    judged, intervals = judge_events(true, given)
    assert judged["instant"].all()
    assert judged[["tiou", "tiou_best", "tiou_worst", "tiou_whole"]].isna().all(axis=None)
    assert intervals["false_alarm"].tolist() == [0.0, 1.0, 0.0]
    assert judged["onset_error"].tolist() == [9.0, 11.0, 0.0]


def test_the_whole_sequence_is_told_beside() -> None:
    true = truths(("s0", "a", 40, 60, 100, 100), ("s0", "b", *NEVER))
    judged, _ = judge_events(true, predicted())
    assert judged["tiou_whole"].tolist() == [0.5, 0.0]


def test_order_of_rows_changes_nothing() -> None:
    true = truths(("s0", "a", 0, 5, 20, 30), ("s0", "a", 50, 55, 70, 90), ("s1", "b", 10, 12, 40, 41))
    given = predicted(("s1", "b", 12.0, 39.0), ("s0", "a", 55.0, 70.0), ("s0", "a", 0.0, 10.0))
    forward, _ = judge_events(true, given)
    backward, _ = judge_events(true, given.iloc[::-1])
    pd.testing.assert_frame_equal(forward, backward)


def test_open_predictions_last_to_the_end() -> None:
    judged, _ = judge_events(truths(("s0", "a", 40, 60, 100, 100)), predicted(("s0", "a", 50.0, np.nan)))
    assert judged[["tiou", "tiou_best"]].to_numpy().tolist() == [[1.0, 1.0]]
    assert judged["tiou_worst"].tolist() == pytest.approx([40 / 50])

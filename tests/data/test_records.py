"""Records: who owns what, and what is known at the last position of a subset."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from temmed.data.batch import IGNORE
from temmed.data.fitted import Fitted
from temmed.data.records import build_records, censored, event_targets
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, make_split

_TIMES = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
_ALL = np.ones(5, dtype=bool)
_INF, _NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((_NAN,) * 4, [0, 0, 0, 0, 0]),
        ((-_INF, 0.0, 40.0, _INF), [1, 1, 1, 1, 1]),
        ((0.0, 10.0, 20.0, 30.0), [0, 1, 1, 0, 0]),
        ((0.0, 20.0, 20.0, 40.0), [0, IGNORE, 1, IGNORE, 0]),
        ((30.0, 40.0, 40.0, _INF), [0, 0, 0, 0, 1]),
    ],
)
def test_event_targets(interval: tuple[float, ...], expected: list[int]) -> None:
    assert event_targets(np.array(interval), _TIMES, _ALL).tolist() == expected


def test_positions_without_image_have_no_target() -> None:
    imaged = np.array([True, False, True, True, True])
    for interval in ((0.0, 10.0, 20.0, 30.0), (_NAN,) * 4):
        assert event_targets(np.array(interval), _TIMES, imaged)[1] == IGNORE


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.0, 10.0, 20.0, 30.0), (0.0, 10.0, 20.0, _INF)),
        ((0.0, 10.0, 10.0, 20.0), (0.0, 10.0, 10.0, 20.0)),
        ((30.0, 40.0, 40.0, _INF), (25.0, _INF, 25.0, _INF)),
        ((-_INF, 0.0, 40.0, _INF), (-_INF, 0.0, 25.0, _INF)),
        ((_NAN,) * 4, (_NAN,) * 4),
    ],
)
def test_bounds_later_than_the_last_position_are_open(interval: tuple[float, ...], expected: tuple[float, ...]) -> None:
    known = censored(np.array(interval), np.array([0.0, 10.0, 25.0]))
    np.testing.assert_array_equal(known, expected)


def test_censoring_leaves_the_targets_as_they_are() -> None:
    for interval in ((0.0, 10.0, 20.0, 30.0), (20.0, 30.0, 40.0, _INF), (-_INF, 0.0, 30.0, 40.0)):
        bounds: NDArray[np.float64] = np.array(interval)
        for last in range(1, 5):
            times, there = _TIMES[: last + 1], _ALL[: last + 1]
            whole = event_targets(bounds, _TIMES, _ALL)[: last + 1]
            assert event_targets(censored(bounds, times), times, there).tolist() == whole.tolist()


def test_split_by_time_shows_nothing_later(tiny_timeline: Timeline, fitted: Fitted) -> None:
    by_time = make_split(tiny_timeline, by="time", seed=0)
    lengths = tiny_timeline.table("timepoints").groupby("sequence_id").size()
    statements = 0
    for subset in ("train", "val", "test"):
        bounds = by_time.sequences(subset).set_index("sequence_id")
        for record in build_records(tiny_timeline, by_time, subset, fitted, needs_questions=False):
            first, last = bounds.loc[record.sequence_id, ["first_asked", "last_asked"]]
            assert len(record.times) == last + 1
            assert subset == "test" or len(record.times) < lengths[record.sequence_id]
            for question in record.questions:
                assert first <= question.asked_at <= last
            for event in record.events:
                assert len(event.targets) == last + 1
                later = np.array(event.interval)[np.array(event.interval) > record.times[-1]]
                assert np.isinf(later).all()
            assert all(first <= s.position <= last for s in record.statements)
            assert all(position <= last for _, position in record.reports)
            statements += len(record.statements)
    assert statements == len(tiny_timeline.table("statements"))


def test_split_by_time_gives_every_event_target_to_one_subset(tiny_timeline: Timeline, fitted: Fitted) -> None:
    patients = make_split(tiny_timeline, by="patient", seed=0)
    by_time = make_split(tiny_timeline, by="time", seed=0)

    def targets(split: Split, subset: str) -> dict[tuple[str, int, int], int]:
        return {
            (record.sequence_id, number, position): int(target)
            for record in build_records(tiny_timeline, split, subset, fitted, needs_questions=False)
            for number, event in enumerate(record.events)
            for position, target in enumerate(event.targets)
            if target != IGNORE
        }

    whole = targets(patients, "train") | targets(patients, "val") | targets(patients, "test")
    found: dict[tuple[str, int, int], int] = {}
    for subset in ("train", "val", "test"):
        bounds = by_time.sequences(subset).set_index("sequence_id")
        of_subset = targets(by_time, subset)
        assert of_subset
        for sequence, _, position in of_subset:
            assert bounds.at[sequence, "first_asked"] <= position <= bounds.at[sequence, "last_asked"]
        assert not found.keys() & of_subset.keys()
        found |= of_subset
    assert found == whole


def test_records_hold_what_the_tables_say(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> None:
    questions = split.questions(tiny_timeline, "train").set_index("question_id")
    records = build_records(tiny_timeline, split, "train", fitted)
    assert [r.sequence_id for r in records] == sorted(r.sequence_id for r in records)
    assert sum(len(r.questions) for r in records) == len(questions)
    for record in records:
        for question in record.questions:
            row = questions.loc[question.identity]
            assert row["sequence_id"] == record.sequence_id
            assert question.prompt == fitted.tokenizer.encode(row["prompt"])
            if question.choices:
                assert list(row["choices"])[question.answer] == row["answer"] == question.truth
                assert np.isnan(question.value)
            else:
                assert question.answer == IGNORE
                assert fitted.values.inverse(np.array([question.value]))[0] == pytest.approx(row["value"])
            assert record.imaged[question.evidence].all()


def test_reports_are_targets_at_the_positions_of_the_subset_and_not_input(
    tiny_timeline: Timeline, fitted: Fitted
) -> None:
    by_time = make_split(tiny_timeline, by="time", seed=0)
    reports = tiny_timeline.table("reports")
    records = build_records(
        tiny_timeline, by_time, "val", fitted, needs_questions=False, needs_reports=False, needs_written=True
    )
    found = 0
    for row in by_time.sequences("val").itertuples():
        own = reports[reports["sequence_id"] == row.sequence_id]
        own = own[own["position"].between(row.first_asked, row.last_asked)]
        (record,) = (record for record in records if record.sequence_id == row.sequence_id)
        assert record.reports == []
        assert record.patient_id == row.patient_id
        encoded = [fitted.tokenizer.encode(text) for text in own["text"]]
        assert record.written == list(zip(encoded, own["position"], strict=True))
        found += len(own)
    assert 0 < found < len(reports)

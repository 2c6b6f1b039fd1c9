"""Strides and windows: fewer positions, the same times, names and truths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from temmed.data.batch import TimelineBatch
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels
from temmed.data.records import Event, Question, Record, Statement
from temmed.data.subsample import draw_window, needed, shown, starts, strided, within


def _question(identity: str, asked_at: int, evidence: list[int]) -> Question:
    return Question(identity, "event", "", [5], [], asked_at, -100, None, 0.0, evidence)


@st.composite
def loops(draw: st.DrawFn) -> Record:
    length = draw(st.integers(1, 30))
    questions = []
    for number in range(draw(st.integers(0, 6))):
        asked_at = draw(st.integers(0, length - 1))
        evidence = draw(st.lists(st.integers(0, asked_at), max_size=2, unique=True).map(sorted))
        questions.append(_question(f"q{number}", asked_at, evidence))
    times = np.cumsum(draw(st.lists(st.floats(0.01, 5), min_size=length, max_size=length)))
    targets = np.array(draw(st.lists(st.sampled_from([0, 1, -100]), min_size=length, max_size=length)))
    imaged = np.array(draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    return Record(
        "s",
        2,
        times,
        imaged,
        questions,
        [Event("beat", [7], targets, (0.5, 1.5, 2.5, 3.5))],
        [Statement(f"st{position}", [3], position, True) for position in range(length)],
        [([4, position], position) for position in range(length)],
        written=[([5], position) for position in range(length)],
    )


@given(loops(), st.integers(1, 8), st.integers(0, 1))
def test_a_stride_keeps_every_question_and_the_real_moments(record: Record, stride: int, delay: int) -> None:
    kept = strided(len(record.times), stride, [q.asked_at for q in record.questions])
    part = shown(record, kept, delay)
    assert set(range(0, len(record.times), stride)) <= set(part.positions.tolist())
    np.testing.assert_array_equal(part.times, record.times[part.positions])
    np.testing.assert_array_equal(part.imaged, record.imaged[part.positions])
    assert [q.identity for q in part.questions] == [q.identity for q in record.questions]
    for here, there in zip(part.questions, record.questions, strict=True):
        assert part.positions[here.asked_at] == there.asked_at
        whole = set(there.evidence) <= set(kept.tolist())
        assert part.positions[here.evidence].tolist() == (there.evidence if whole else [])
    for event, original in zip(part.events, record.events, strict=True):
        for n, (bound, true) in enumerate(zip(event.interval, original.interval, strict=True)):
            known = true <= part.times[-1] or part is record
            assert bound == (true if known else (part.times[-1], np.inf)[n % 2])
        np.testing.assert_array_equal(event.targets, original.targets[kept])
    assert [part.positions[s.position] for s in part.statements] == kept.tolist()
    assert [part.positions[position] for _, position in part.written] == kept.tolist()
    # A report is read at the first kept position at which it might be read in the whole sequence, and not before.
    for (_, own), at in part.reports:
        later = [n for n, position in enumerate(kept) if position >= own + delay]
        assert at + delay == (later[0] if later else len(kept))


@given(loops(), st.integers(1, 4), st.integers(1, 12), st.integers(0, 5))
def test_a_window_is_a_run_that_suffices_for_its_questions(record: Record, stride: int, length: int, seed: int) -> None:
    kept = strided(len(record.times), stride, [q.asked_at for q in record.questions])
    drawn = draw_window(record, kept, length, np.random.default_rng(seed))
    start = int(np.searchsorted(kept, drawn[0]))
    assert drawn.tolist() == kept[start : start + min(length, len(kept))].tolist()
    part = shown(within(record, drawn), drawn)
    there = {q.identity: q for q in record.questions}
    asked = {q.identity for q in part.questions}
    for identity, question in there.items():
        low, high = needed(question)
        assert (identity in asked) == (drawn[0] <= low and high <= drawn[-1])
    # If a question fits anywhere, one is asked.
    assert bool(asked) == any(len(kept) <= length or starts(kept, length, q) for q in record.questions)
    assert all(drawn[0] <= tokens[1] <= drawn[-1] for tokens, _ in part.reports)


def test_windows_are_drawn_evenly_around_what_is_needed() -> None:
    record = Record("s", 2, np.arange(20.0), np.ones(20, bool), [_question("q", 12, [10])])
    drawn = [
        int(draw_window(record, np.arange(20), 5, np.random.default_rng([0, epoch, 0]))[0]) for epoch in range(300)
    ]
    assert sorted(set(drawn)) == [8, 9, 10]
    assert min(np.bincount(drawn)[8:]) > 70


def _assert_same(left: TimelineBatch, right: TimelineBatch) -> None:
    for name, value in vars(left).items():
        other = getattr(right, name)
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, other, rtol=0, atol=0, equal_nan=True, msg=name)
        else:
            assert value == other, name


@pytest.mark.parametrize("reports", ["none", "past", "all"])
def test_stride_one_and_long_windows_change_nothing(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted, reports: str
) -> None:
    def batches(**changes: int) -> list[TimelineBatch]:
        dataset = SequenceDataset(
            records,
            pixels,
            len(fitted.sources),
            reports=reports,  # type: ignore[arg-type]
            position_dropout=0.3,
            max_questions=4,
            **changes,
        )
        return [Collator(reports)([dataset[epoch, index] for index in range(6)]) for epoch in (0, 3)]

    longest = max(len(record.times) for record in records)
    for left, right in zip(batches(), batches(stride=1, window=longest), strict=True):
        _assert_same(left, right)


def test_windows_depend_on_seed_epoch_and_index_alone(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    def seen(seed: int, epoch: int) -> list[list[int]]:
        dataset = SequenceDataset(records, pixels, len(fitted.sources), seed=seed, window=3)
        return [dataset[epoch, index].record.positions.tolist() for index in (4, 0, 2, 7)]

    assert seen(1, 2) == seen(1, 2)
    assert seen(1, 2) != seen(1, 3)
    assert seen(1, 2) != seen(2, 2)
    assert all(np.diff(positions).tolist() == [1, 1] for positions in seen(1, 2))


def test_pixels_and_sizes_are_those_of_the_kept_positions(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    whole = SequenceDataset(records, pixels, len(fitted.sources))
    dataset = SequenceDataset(records, pixels, len(fitted.sources), stride=3)
    for index, (positions, questions, images) in enumerate(dataset.sizes):
        item, full = dataset[index], whole[index]
        record = item.record
        assert (len(record.times), len(record.questions), len(item.images)) == (positions, questions, images)
        there = record.positions[item.positions]
        expected = full.image_sequence[torch.from_numpy(there)]
        assert torch.equal(item.images, expected)
    windows = SequenceDataset(records, pixels, len(fitted.sources), stride=2, window=3, max_questions=2)
    for index, limits in enumerate(windows.sizes):
        item = windows[1, index]
        found = (len(item.record.times), len(item.record.questions), len(item.images))
        assert all(size <= limit for size, limit in zip(found, limits, strict=True))
        assert found[0] == limits[0]


def test_padding_of_positions_is_counted_on(records: list[Record], pixels: DecodedPixels, fitted: Fitted) -> None:
    dataset = SequenceDataset(records, pixels, len(fitted.sources), stride=4)
    batch = Collator()([dataset[index] for index in range(len(dataset))])
    assert not batch.mask.all()
    steps = batch.positions.diff(dim=1)
    assert (steps >= 1).all()
    assert (steps[~batch.mask[:, 1:]] == 1).all()
    plain = Collator()([SequenceDataset(records, pixels, len(fitted.sources))[index] for index in range(6)])
    assert torch.equal(plain.positions, torch.arange(plain.mask.shape[1]).expand(6, -1))


def test_a_record_of_its_own_positions_is_counted() -> None:
    record = Record("s", 2, np.arange(4.0), np.ones(4, bool))
    assert record.positions.tolist() == [0, 1, 2, 3]
    assert replace(record, positions=np.array([0, 3, 6, 9])).positions.tolist() == [0, 3, 6, 9]

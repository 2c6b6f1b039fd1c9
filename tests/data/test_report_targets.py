"""Which reports are to be written, and which one before each is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from temmed.data.batch import IGNORE
from temmed.data.caches.features import feature_key
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import build_records
from temmed.data.report_targets import TargetReport, fit_reports, shown_reports
from temmed.data.subsample import shown
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, make_split


@pytest.fixture(scope="module")
def writing(fitted: Fitted, tiny_timeline: Timeline, split: Split) -> Fitted:
    return fit_reports(fitted, tiny_timeline, split, None, size=400, longest=400)


def test_the_vocabulary_is_of_the_train_subset_alone(
    writing: Fitted, fitted: Fitted, tiny_timeline: Timeline, split: Split, with_tables: Callable[..., Timeline]
) -> None:
    owned = set(split.sequences("train")["sequence_id"])
    reports = tiny_timeline.table("reports")
    others = ~reports["sequence_id"].isin(owned)
    assert others.any()
    changed = reports.assign(text=reports["text"].where(~others, "zebra zebra zebra zebra"))
    other = Timeline(
        tiny_timeline.root,
        tiny_timeline.meta,
        {**tiny_timeline._tables, "reports": changed},
        tiny_timeline.problems,
        "",
    )
    assert fit_reports(fitted, other, split, None, size=400, longest=400).reports == writing.reports


def test_it_is_kept_in_a_checkpoint(writing: Fitted) -> None:
    assert Fitted.from_dict(writing.to_dict()) == writing
    assert writing.reports is not None


def test_features_of_images_are_kept_whatever_is_written(writing: Fitted, fitted: Fitted) -> None:
    backbone = torch.nn.Linear(2, 2)
    assert feature_key("images", writing, backbone) == feature_key("images", fitted, backbone)


def test_no_reports_are_refused(
    fitted: Fitted, tiny_timeline: Timeline, split: Split, with_tables: Callable[..., Timeline]
) -> None:
    notes = tiny_timeline.table("reports").assign(kind="note")
    bare = with_tables(tiny_timeline, reports=notes)
    with pytest.raises(InputError, match=r"model\.heads\.report\.weight=0"):
        fit_reports(fitted, bare, split, None, size=400, longest=400)


@pytest.mark.parametrize("reports", ["none", "past", "all"])
def test_the_report_before_is_the_latest_of_an_earlier_position(
    reports: str, writing: Fitted, tiny_timeline: Timeline, split: Split
) -> None:
    records = build_records(tiny_timeline, split, "train", writing)[:5]
    dataset = SequenceDataset(
        records, DecodedPixels(ImageSource(tiny_timeline), writing), len(writing.sources), reports=reports
    )
    batch = Collator(reports)([dataset[n] for n in range(5)])
    table = tiny_timeline.table("reports")
    assert writing.reports is not None
    for b, sequence in enumerate(batch.sequence_ids):
        own = table[table["sequence_id"] == sequence].sort_values("position")
        found = batch.report_targets[b][batch.report_wanted[b]]
        texts = [writing.reports.decode(row[row != IGNORE].tolist()) for row in found]
        assert texts == own["text"].tolist()
        assert batch.report_at[b][batch.report_wanted[b]].tolist() == own["position"].tolist()
        before = batch.report_prior[b][batch.report_wanted[b]].tolist()
        assert before == ([-1] * len(own) if reports == "none" else list(range(-1, len(own) - 1)))


def test_a_subset_writes_its_own_positions_and_knows_earlier_ones(tiny_timeline: Timeline, writing: Fitted) -> None:
    by_time = make_split(tiny_timeline, by="time", seed=0)
    first = by_time.sequences("test").set_index("sequence_id")["first_asked"]
    records = build_records(tiny_timeline, by_time, "test", writing)
    assert any(report.position < first[r.sequence_id] for r in records for report in r.report_targets)
    for record in records:
        for report in record.report_targets:
            assert report.wanted == (report.position >= first[record.sequence_id])
            assert report.position < len(record.times)


def test_a_hidden_image_has_no_report_to_write(writing: Fitted, tiny_timeline: Timeline, split: Split) -> None:
    record = build_records(tiny_timeline, split, "train", writing)[0]
    hidden = record.report_targets[1].position
    record = replace(record, imaged=np.where(np.arange(len(record.times)) == hidden, False, record.imaged))
    dataset = SequenceDataset([record], DecodedPixels(ImageSource(tiny_timeline), writing), len(writing.sources))
    batch = Collator("past")([dataset[0]])
    assert batch.report_wanted[0].tolist() == [report.position != hidden for report in record.report_targets]
    assert batch.report_prior[0, 2] == 1  # it is still known later


def test_left_out_positions_are_known_from_the_next_on() -> None:
    written = [TargetReport([n], position, True) for n, position in enumerate([0, 2, 3, 5, 6])]
    moved = shown_reports(written, np.array([1, 2, 5]))
    assert [(report.tokens, report.position, report.wanted) for report in moved] == [
        ([1], 1, True),
        ([2], 1, False),
        ([3], 2, True),
    ]


def test_a_stride_shows_them_at_their_places(writing: Fitted, tiny_timeline: Timeline, split: Split) -> None:
    record = build_records(tiny_timeline, split, "train", writing)[0]
    kept = np.arange(0, len(record.times), 2)
    for report in shown(record, kept).report_targets:
        if report.wanted:
            assert report in [replace(r, position=report.position) for r in record.report_targets]
            assert kept[report.position] in [r.position for r in record.report_targets if r.tokens == report.tokens]

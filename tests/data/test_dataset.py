"""Items: what is shown, what is asked, and what probes may see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

from temmed.data.batch import IGNORE, NAMED
from temmed.data.collate import Collator
from temmed.data.dataset import Inputs, SequenceDataset
from temmed.data.fitted import Fitted, Source
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.pixels import Finish, PixelStack, pack
from temmed.data.records import Record, Statement


def test_item_offers_images_prompts_and_truth(records: list[Record], pixels: DecodedPixels, fitted: Fitted) -> None:
    for item in SequenceDataset(records, pixels, len(fitted.sources)):  # type: ignore[attr-defined]
        record = item.record
        length = len(record.times)
        assert item.image_sequence.shape == (length, 2, 32, 32)
        assert len(item.time_aligned_prompts) == len(item.ground_truth) == length
        for position in range(length):
            asked = [q for q in record.questions if q.asked_at == position]
            assert item.time_aligned_prompts[position] == [q.text for q in asked]
            assert item.ground_truth[position] == [q.truth or q.value for q in asked]
            assert item.image_sequence[position].any() == record.imaged[position]
        assert item.positions == np.flatnonzero(record.imaged).tolist()


def test_items_end_at_the_last_index(records: list[Record], pixels: DecodedPixels, fitted: Fitted) -> None:
    dataset = SequenceDataset(records, pixels, len(fitted.sources))
    assert len(dataset) == len(records)
    assert dataset.sizes == [(len(r.times), len(r.questions), int(r.imaged.sum())) for r in records]
    with pytest.raises(IndexError):
        dataset[len(records)]


def test_missing_visits_have_no_image(records: list[Record], pixels: DecodedPixels, fitted: Fitted) -> None:
    number = next(n for n, record in enumerate(records) if not record.imaged.all())
    item = SequenceDataset(records, pixels, len(fitted.sources))[number]
    assert len(item.images) == records[number].imaged.sum() < len(records[number].times)
    assert isinstance(item.pixels, PixelStack)
    assert item.pixels.mask.all()


class _Found:
    """Images as an `ImageSource` gives them."""

    def __init__(self, found: dict[int, dict[Source, np.ndarray]]) -> None:
        self.found = found

    def read(self, sequence_id: str, positions: Sequence[int]) -> dict[int, dict[Source, np.ndarray]]:
        return {position: self.found[position] for position in positions}


def test_absent_channel_is_masked_and_zero(fitted: Fitted) -> None:
    flair, t1 = fitted.sources
    found = {
        0: {t1: np.full((32, 32), 700, np.uint16)},
        2: {flair: np.zeros((16, 48), np.uint16), t1: np.zeros((32, 32), np.uint16)},
    }
    stack = DecodedPixels(cast(ImageSource, _Found(found)), fitted).stack("s", [0, 2])
    raw, mask = pack([stack], 2)
    assert raw.dtype == torch.uint16
    assert mask.tolist() == [[False, True], [True, True]]
    images = Finish(fitted)(raw, mask)
    assert not images[0, 0].any()
    assert images.shape == (2, 2, 32, 32)
    assert images[0, 1, 0, 0].item() == pytest.approx((700 - fitted.mean[1]) / fitted.deviation[1], rel=1e-5)


def test_position_dropout_never_hides_what_a_question_needs(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    dataset = SequenceDataset(records, pixels, len(fitted.sources), position_dropout=0.4)
    hidden = kept = 0
    for epoch in range(8):
        for index, record in enumerate(records):
            thinned = dataset._thinned(record, np.random.default_rng([0, epoch, index]))
            assert thinned.imaged.any()
            assert not (thinned.imaged & ~record.imaged).any()
            for question in thinned.questions:
                assert thinned.imaged[[*question.evidence, question.asked_at]].all()
            for event in thinned.events:
                assert (event.targets[~thinned.imaged] == IGNORE).all()
            hidden += int((record.imaged & ~thinned.imaged).sum())
            kept += int(thinned.imaged.sum())
    assert hidden / (hidden + kept) == pytest.approx(0.4, abs=0.05)


def test_randomness_depends_on_seed_epoch_and_index_alone(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    def shown(seed: int, epoch: int) -> list[tuple]:
        dataset = SequenceDataset(
            records, pixels, len(fitted.sources), position_dropout=0.3, max_questions=2, seed=seed
        )
        items = [dataset[epoch, index] for index in (3, 0, 5)]
        assert all(len(item.record.questions) <= 2 for item in items)
        return [(item.positions, [q.identity for q in item.record.questions]) for item in items]

    assert shown(1, 2) == shown(1, 2)
    assert shown(1, 2) != shown(1, 3)
    assert shown(1, 2) != shown(2, 2)


def test_dropout_leaves_the_records_as_they_were(records: list[Record], pixels: DecodedPixels, fitted: Fitted) -> None:
    before = [(r.imaged.copy(), [e.targets.copy() for e in r.events]) for r in records]
    dataset = SequenceDataset(records, pixels, len(fitted.sources), position_dropout=0.5)
    for index in range(len(records)):
        dataset[1, index]
    for record, (imaged, targets) in zip(records, before, strict=True):
        np.testing.assert_array_equal(record.imaged, imaged)
        for event, target in zip(record.events, targets, strict=True):
            np.testing.assert_array_equal(event.targets, target)


def test_moments_that_prompts_name_are_in_the_batch(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    batch = Collator()(list(map(SequenceDataset(records, pixels, len(fitted.sources)).__getitem__, range(4))))
    found = 0
    for b, record in enumerate(records[:4]):
        for q, question in enumerate(record.questions):
            said = [int(number) for number in re.findall(r"time point (\d+)", question.text)][:NAMED]
            assert batch.named[b, q, : len(said), 1].tolist() == said
            assert batch.named[b, q, len(said) :, 1].isnan().all()
            found += len(said)
    assert found


def test_moments_that_statements_name_are_in_the_batch(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    told = Statement("s", [3], 0, True, "Larger than 2 weeks before, at time point 1.")
    dataset = SequenceDataset([replace(records[0], statements=[told])], pixels, len(fitted.sources))
    assert str(Collator()([dataset[0]]).statement_named.tolist()) == "[[[[14.0, nan], [nan, 1.0]]]]"


@pytest.mark.parametrize("inputs", ["text", "asked_image", "prior_image"])
def test_probes_see_one_position_and_ask_everything_once(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted, inputs: Inputs
) -> None:
    dataset = SequenceDataset(records, pixels, len(fitted.sources), inputs=inputs)
    whole = {q.identity: (record, q) for record in records for q in record.questions}
    asked: list[str] = []
    for index in range(len(dataset)):
        item = dataset[index]
        assert len(item.record.times) == 1
        assert item.record.statements == []
        assert item.record.reports == []
        for question in item.record.questions:
            asked.append(question.identity)
            record, original = whole[question.identity]
            assert question.asked_at == 0
            assert (question.prompt, question.answer) == (original.prompt, original.answer)
            if inputs == "text":
                assert len(item.images) == 0
                continue
            position = original.asked_at if inputs == "asked_image" else min(original.evidence, default=0)
            expected, _ = pack([pixels.stack(record.sequence_id, [position])], len(fitted.sources))
            assert torch.equal(item.images, expected.float())
            assert question.evidence == ([0] if position in original.evidence else [])
    assert sorted(asked) == sorted(whole)


def test_asked_image_probe_keeps_the_event_target_of_its_position(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    dataset = SequenceDataset(records, pixels, len(fitted.sources), inputs="asked_image")
    for view, index in zip(dataset.views, range(len(dataset)), strict=True):
        record = records[view.record]
        item = dataset[index]
        for event, original in zip(item.record.events, record.events, strict=True):
            assert event.targets.tolist() == [original.targets[view.position]]
    assert SequenceDataset(records, pixels, len(fitted.sources), inputs="prior_image")[0].record.events == []


def test_reports_are_input_only_when_asked_for(records: list[Record], pixels: DecodedPixels, fitted: Fitted) -> None:
    assert SequenceDataset(records, pixels, len(fitted.sources))[0].record.reports == []
    for reports in ("past", "all"):
        item = SequenceDataset(records, pixels, len(fitted.sources), reports=reports)[0]  # type: ignore[arg-type]
        assert item.record.reports == records[0].reports != []


def test_a_record_without_question_still_gives_an_item(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    silent = replace(records[0], questions=[])
    item = SequenceDataset([silent], pixels, len(fitted.sources))[0]
    assert item.time_aligned_prompts == [[]] * len(silent.times)

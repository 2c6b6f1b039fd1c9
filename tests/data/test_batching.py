"""Batches: packed as one by one, in any order, from any number of workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from temmed.data.batch import COUNTED, IGNORE, TimelineBatch, count_items, earlier_images
from temmed.data.collate import Collator
from temmed.data.datamodule import TimelineDataModule
from temmed.data.dataset import SequenceDataset, TimelineItem
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels
from temmed.data.records import Record
from temmed.data.settings import DataSettings
from temmed.errors import InputError
from temmed.models.build import build_reasoner
from temmed.models.reasoner import Reasoner
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

_CLOSE = {"atol": 1e-5, "rtol": 1e-4}
_HEADS = [("memory_fusion", {"capacity": 2}), ("transformer", {}), ("none", {}), ("difference", {}), ("mean_pool", {})]


@pytest.fixture(scope="module", params=_HEADS, ids=lambda p: p[0])
def reasoner(request: pytest.FixtureRequest, model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> Reasoner:
    torch.manual_seed(0)
    name, changes = request.param
    return build_reasoner(model_config(name, **changes), fitted).eval()


@pytest.fixture(scope="module")
def items(records: list[Record], pixels: DecodedPixels, fitted: Fitted) -> list[TimelineItem]:
    dataset = SequenceDataset(records, pixels, len(fitted.sources), reports="past")
    return [dataset[index] for index in range(6)]


def _answers(model: Reasoner, batch: TimelineBatch) -> dict[str, Tensor]:
    """Everything the model says, by question and by event, without padding."""
    with torch.no_grad():
        output = model(batch)
    said: dict[str, Tensor] = {}
    for b, sequence in enumerate(batch.sequence_ids):
        length = int(batch.mask[b].sum())
        for q, identity in enumerate(batch.question_ids[b]):
            offered = batch.choice_mask[b, q]
            said[f"{identity}/answer"] = output["answer"][b, q][offered]
            said[f"{identity}/value"] = output["value"][b, q]
            assert output["answer"][b, q][~offered].isneginf().all()
            if output["evidence"] is not None:
                said[f"{identity}/pointers"] = output["evidence"][b, q, :, :length]
        for e, label in enumerate(batch.event_labels[b]):
            said[f"{sequence}/{e}/{label}"] = output["event"][b, e, :length]
    return said


def _assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        torch.testing.assert_close(value, right[key], **_CLOSE, msg=lambda m, key=key: f"{key}: {m}")


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), size=st.integers(1, 6))
def test_order_and_size_of_batches_change_nothing(
    reasoner: Reasoner, items: list[TimelineItem], order: list[int], size: int
) -> None:
    collate = Collator("past")
    whole = _answers(reasoner, collate(items))
    parts: dict[str, Tensor] = {}
    for start in range(0, 6, size):
        parts |= _answers(reasoner, collate([items[k] for k in order[start : start + size]]))
    _assert_same(whole, parts)


def test_what_is_padding_changes_nothing(reasoner: Reasoner, items: list[TimelineItem]) -> None:
    batch = Collator("past")(items)
    there = batch.mask
    changed = replace(
        batch,
        times=torch.where(there, batch.times, torch.full_like(batch.times, 777.0)),
        prompts=torch.where(batch.question_mask.unsqueeze(-1), batch.prompts, torch.full_like(batch.prompts, 3)),
        asked_at=torch.where(batch.question_mask, batch.asked_at, torch.full_like(batch.asked_at, 1)),
    )
    assert not there.all()
    assert not batch.question_mask.all()
    _assert_same(_answers(reasoner, batch), _answers(reasoner, changed))


def test_the_visual_stream_never_sees_questions(reasoner: Reasoner, items: list[TimelineItem]) -> None:
    batch = Collator("past")(items)
    other = replace(batch, prompts=batch.prompts.flip(1), choices=batch.choices + 1, asked_at=batch.asked_at * 0)
    tokens = reasoner.encode_images(batch)
    assert torch.equal(tokens, reasoner.encode_images(other))
    (first, _), (second, _) = reasoner.remember(batch, tokens), reasoner.remember(other, tokens)
    for name in ("values", "times", "positions", "valid_from", "valid_to"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_answers_never_depend_on_later_images(reasoner: Reasoner, items: list[TimelineItem]) -> None:
    collate = Collator("past")
    batch = collate(items)
    later = batch.frame_index[:, 1] >= 3
    images = batch.images.float()
    images[later] = images[later].flip(-1) * 2 + 1
    before, after = _answers(reasoner, batch), _answers(reasoner, replace(batch, images=images))
    early = {q.identity for item in items for q in item.record.questions if q.asked_at < 3}
    assert early
    changed = 0
    for key, value in before.items():
        if key.split("/")[0] in early:
            # Positions past the question have pointers of zero either way.
            torch.testing.assert_close(value, after[key], **_CLOSE)
        else:
            changed += not torch.allclose(value, after[key])
    assert changed


@pytest.mark.parametrize("reports", ["past", "all"])
def test_reports_are_read_from_their_position_on(reasoner: Reasoner, items: list[TimelineItem], reports: str) -> None:
    batch = Collator(reports)(items)
    at = 3
    start = at + 1 if reports == "past" else at
    chosen = torch.zeros_like(batch.report_mask)
    for b, item in enumerate(items):
        for r, (_, position) in enumerate(item.record.reports):
            chosen[b, r] = position == at
    assert chosen.any()
    changed = replace(batch, reports=torch.where(chosen.unsqueeze(-1), batch.reports.flip(1) + 1, batch.reports))
    before, after = _answers(reasoner, batch), _answers(reasoner, changed)
    asked = {q.identity: q.asked_at for item in items for q in item.record.questions}
    seen = 0
    for key, value in before.items():
        name = key.split("/")[0]
        if name in asked and asked[name] < start:
            torch.testing.assert_close(value, after[key], **_CLOSE)
        elif name in asked:
            seen += not torch.allclose(value, after[key])
    assert seen


def test_shapes_and_masks(items: list[TimelineItem]) -> None:
    batch = Collator()(items)
    size, length = batch.mask.shape
    assert len(batch) == size == 6
    assert len(batch.images) == batch.image_mask.sum() == len(batch.frame_index)
    assert torch.equal(batch.image_mask[tuple(batch.frame_index.T)], torch.ones(len(batch.images), dtype=torch.bool))
    assert not (batch.image_mask & ~batch.mask).any()
    assert batch.mask.sum(dim=1).tolist() == [len(item.record.times) for item in items]
    assert batch.evidence.shape == (*batch.question_mask.shape, length)
    assert (batch.answers[~batch.question_mask] == IGNORE).all()
    assert batch.values[~batch.question_mask].isnan().all()
    assert (batch.event_targets[~batch.event_mask] == IGNORE).all()
    for b, item in enumerate(items):
        for q, question in enumerate(item.record.questions):
            assert batch.evidence[b, q].nonzero().flatten().tolist() == sorted(question.evidence)
            assert batch.choice_mask[b, q].sum() == len(question.choices)
    counts = dict(zip(COUNTED, count_items(batch).tolist(), strict=True))
    questions = [q for item in items for q in item.record.questions]
    assert counts["answer"] == sum(q.answer != IGNORE for q in questions)
    assert counts["value"] == sum(q.value == q.value for q in questions)
    assert counts["evidence"] == sum(bool(q.evidence) for q in questions)


def test_the_image_before_each_position(items: list[TimelineItem]) -> None:
    batch = Collator()(items)
    for mask, found in zip(batch.image_mask.tolist(), earlier_images(batch).tolist(), strict=True):
        for position, earlier in enumerate(found):
            assert earlier == max((p for p in range(position) if mask[p]), default=-1)


def test_patients_have_numbers_of_their_own(items: list[TimelineItem]) -> None:
    batch = Collator()([*items, items[0]])
    numbers = batch.patients.tolist()
    assert numbers[0] == numbers[-1]
    assert len(set(numbers)) == len({item.record.patient_id for item in items}) > 1


def test_batch_without_any_image(records: list[Record], pixels: DecodedPixels, fitted: Fitted) -> None:
    dataset = SequenceDataset(records, pixels, len(fitted.sources), inputs="text")
    batch = Collator()([dataset[0], dataset[1]])
    assert batch.frame_index.shape == (0, 2)
    assert batch.frame_index.dtype == torch.long
    assert batch.images.shape == (0, 2, 32, 32)


def _tensors(batch: TimelineBatch) -> dict[str, Tensor]:
    return {f.name: getattr(batch, f.name) for f in fields(batch) if isinstance(getattr(batch, f.name), Tensor)}


def test_workers_change_nothing(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> None:
    loaded = []
    for workers in (0, 2):
        options = DataSettings(size=32, batch_size=3, num_workers=workers, max_questions=4, position_dropout=0.3)
        data = TimelineDataModule(tiny_timeline, split, options, fitted, seed=3)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(2)
        loaded.append(list(loader))
    assert len(loaded[0]) == len(loaded[1]) > 1
    for alone, spawned in zip(*loaded, strict=True):
        assert alone.question_ids == spawned.question_ids
        others = _tensors(spawned)
        for name, value in _tensors(alone).items():
            torch.testing.assert_close(value, others[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("inputs", ["text", "asked_image", "prior_image"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_probe_takes_as_many_steps_and_asks_everything_once(
    tiny_timeline: Timeline, split: Split, fitted: Fitted, inputs: str, batch_size: int
) -> None:
    def batches(inputs: str) -> list[list[str]]:
        options = DataSettings(size=32, batch_size=batch_size, inputs=inputs, position_dropout=0.0)
        loader = TimelineDataModule(tiny_timeline, split, options, fitted, seed=3).train_dataloader()
        loader.sampler.set_epoch(1)
        found = [[name for names in batch.question_ids for name in names] for batch in loader]
        assert len(found) == len(loader)
        return found

    whole, probe = batches("all"), batches(inputs)
    assert len(probe) == pytest.approx(len(whole), rel=0.25)
    asked = sorted(name for names in probe for name in names)
    assert asked == sorted(name for names in whole for name in names)
    assert len(asked) == len(set(asked))
    assert batches(inputs) == probe


def test_subset_without_questions_is_refused(tiny_timeline: Timeline, fitted: Fitted, split: Split) -> None:
    train_only = Split("odd", "patient", 0, split.sequences("train"), (1.0, 0.0, 0.0))
    data = TimelineDataModule(tiny_timeline, train_only, DataSettings(size=32), fitted)
    with pytest.raises(InputError, match="val subset"):
        data.dataset("val")


def test_moving_takes_every_tensor_along(items: list[TimelineItem]) -> None:
    batch = replace(Collator()(items), window=torch.ones(4))
    moved = batch.to("meta")
    assert moved.question_ids == batch.question_ids
    assert {name: value.device.type for name, value in _tensors(moved).items()} == dict.fromkeys(
        _tensors(batch), "meta"
    )


def test_a_batch_is_told_in_one_line(items: list[TimelineItem]) -> None:
    batch = Collator()(items)
    told = repr(batch)
    assert told.startswith(f"TimelineBatch({len(items)} sequences, ")
    assert f"images {tuple(batch.images.shape)} " in told
    assert len(told) < 200

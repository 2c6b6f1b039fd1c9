"""Packed, padded and one by one: the model says the same of a sequence, whatever it shares a batch with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from temmed.data.batch import IGNORE, TimelineBatch
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset, TimelineItem
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels
from temmed.data.pixels import PixelStack
from temmed.data.quantities import ELAPSED, POSITION, Quantity
from temmed.data.records import Event, Question, Record
from temmed.data.tokenizer import to_id
from temmed.models.build import build_reasoner
from temmed.models.reasoner import Reasoner

#: In float64: the bound is on what packing changes, not on the rounding of a network of many layers.
_CLOSE = {"atol": 1e-6, "rtol": 0.0}
_HEADS = [("memory_fusion", {"capacity": 2}), ("transformer", {}), ("none", {}), ("difference", {}), ("mean_pool", {})]
_MOMENTS = st.builds(Quantity, st.sampled_from([POSITION, ELAPSED]), st.integers(0, 20))
_IDS = st.integers(2, 9) | _MOMENTS.map(to_id)
_TEXT = st.lists(_IDS, min_size=1, max_size=5)
_NAMING = st.sampled_from(["", "time point 3", "since 20 days", "time point 0 and time point 2"])


@pytest.fixture(scope="module", params=_HEADS, ids=lambda p: p[0])
def reasoner(
    request: pytest.FixtureRequest, model_config: Callable[..., dict[str, Any]], fitted: Fitted
) -> Iterator[Reasoner]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        model = build_reasoner(model_config(request.param[0], **request.param[1]), fitted).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # zeros hide mistakes
                parameter.add_(0.05 * torch.randn(parameter.shape))
        yield model
    finally:
        torch.set_default_dtype(torch.float32)


@st.composite
def _items(draw: st.DrawFn, number: int) -> TimelineItem:
    """A sequence of up to 7 positions, some left out, some without an image or a channel."""
    length = draw(st.integers(1, 7))
    positions = np.cumsum(draw(st.lists(st.integers(1, 3), min_size=length, max_size=length))) - 1
    imaged = np.array(draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    questions = [
        Question(
            f"{number}:{q}", "progression", draw(_NAMING), draw(_TEXT), choices, asked_at, 0, None, 0.5, [asked_at]
        )
        for q, (choices, asked_at) in enumerate(
            draw(st.lists(st.tuples(st.lists(_TEXT, max_size=3), st.integers(0, length - 1)), min_size=1, max_size=4))
        )
    ]
    events = [
        Event(f"e{n}", draw(_TEXT), np.zeros(length, np.int64), (0.0, 0.0, 1.0, 1.0))
        for n in range(draw(st.integers(0, 2)))
    ]
    reports = [(draw(_TEXT), int(p)) for p in draw(st.lists(st.integers(0, length - 1), max_size=2))]
    record = Record(str(number), 2, positions * 7.5, imaged, questions, events, reports=reports, positions=positions)
    count = int(imaged.sum())
    array = rng.integers(0, 1000, (count, 2, 16, 16)).astype(np.uint16)
    mask = rng.random((count, 2)) < 0.8
    array[~mask] = 0
    stack = PixelStack(array, np.arange(count), (0, 1), mask)
    return TimelineItem(record, stack, np.flatnonzero(imaged).tolist(), 2)


_BATCHES = st.integers(1, 4).flatmap(lambda count: st.tuples(*(_items(number) for number in range(count))))


def _padded(batch: TimelineBatch, more: int) -> TimelineBatch:
    """The batch as if it had been padded: ``more`` positions that do not exist, each with an image of zeros."""
    size, length = batch.mask.shape
    beyond = [(b, length + t) for b in range(size) for t in range(more)]
    images = batch.images.new_zeros(len(beyond), *batch.images.shape[1:])
    return replace(
        batch,
        images=torch.cat([batch.images.int(), images.int()]),
        frame_index=torch.cat([batch.frame_index, torch.tensor(beyond)]),
        mask=functional.pad(batch.mask, (0, more)),
        image_mask=functional.pad(batch.image_mask, (0, more)),
        channel_mask=functional.pad(batch.channel_mask, (0, 0, 0, more), value=True),
        times=functional.pad(batch.times, (0, more)),
        positions=torch.cat([batch.positions, batch.positions[:, -1:] + torch.arange(1, more + 1)], dim=1),
        evidence=functional.pad(batch.evidence, (0, more)),
        event_targets=functional.pad(batch.event_targets, (0, more), value=IGNORE),
    )


def _said(model: Reasoner, batch: TimelineBatch) -> dict[str, Tensor]:
    """All that the model says of what exists."""
    with torch.no_grad():
        output = model(batch)
    said: dict[str, Tensor] = {}
    for b, sequence in enumerate(batch.sequence_ids):
        length = int(batch.mask[b].sum())
        for q, identity in enumerate(batch.question_ids[b]):
            said[f"{identity} answer"] = output["answer"][b, q][batch.choice_mask[b, q]]
            said[f"{identity} value"] = output["value"][b, q]
            if output["evidence"] is not None:
                said[f"{identity} pointers"] = output["evidence"][b, q, :, :length]
                assert not output["evidence"][b, q, :, length:].any()
        for e, label in enumerate(batch.event_labels[b]):
            said[f"{sequence} {label}"] = output["event"][b, e, :length]
    return said


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(items=_BATCHES, more=st.integers(1, 4))
def test_packed_is_padded_is_one_by_one(reasoner: Reasoner, items: tuple[TimelineItem, ...], more: int) -> None:
    collate = Collator("past")
    packed = _said(reasoner, collate(list(items)))
    alone: dict[str, Tensor] = {}
    for item in items:
        alone |= _said(reasoner, collate([item]))
    padded = _said(reasoner, _padded(collate(list(items)), more))
    assert packed.keys() == alone.keys() == padded.keys()
    for name, value in packed.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(alone[name], value, **_CLOSE, msg=lambda m, name=name: f"{name}: {m}")
        torch.testing.assert_close(padded[name], value, **_CLOSE, msg=lambda m, name=name: f"{name}: {m}")


def test_what_positions_are_called_is_read(
    reasoner: Reasoner, records: list[Record], pixels: DecodedPixels, fitted: Fitted
) -> None:
    """Without this, the test above could not tell if the names were lost on the way."""
    dataset = SequenceDataset(records, pixels, len(fitted.sources))
    batch = Collator()([dataset[index] for index in range(3)])
    before, after = _said(reasoner, batch), _said(reasoner, replace(batch, positions=batch.positions * 5 + 3))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    # Where there is one slot to read, or none, its address makes no difference.
    assert bool(changed) == reasoner.temporal.addressable

"""What every task head must keep to; found by themselves in conf/model/heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from temmed.data.batch import TimelineBatch, count_items, valid_items
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset, TimelineItem
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import build_records
from temmed.errors import InputError
from temmed.models.build import build_reasoner
from temmed.models.reasoner import Reasoner
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

from .conftest import task_heads, with_boxes

HEADS = sorted(task_heads())


@pytest.fixture(scope="module")
def items(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> list[TimelineItem]:
    """Sequences of unlike lengths, some positions without an image."""
    records = [with_boxes(r) for r in build_records(tiny_timeline, split, "train", fitted, needs_written=True)[:6]]
    dataset = SequenceDataset(records, DecodedPixels(ImageSource(tiny_timeline), fitted), len(fitted.sources))
    found = [dataset[n] for n in range(len(records))]
    assert len({len(item.record.times) for item in found}) > 1
    return found


@pytest.fixture(scope="module")
def reasoner(model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> Reasoner:
    """A model with every head."""
    torch.manual_seed(0)
    return build_reasoner({**model_config("memory_fusion"), "heads": task_heads()}, fitted).eval()


def _parts(said: Any) -> list[Tensor]:
    """The tensors of what a head said, each with the sequences first."""
    if is_dataclass(said):
        return [part for field in fields(said) if isinstance(part := getattr(said, field.name), Tensor)]
    return [said]


@pytest.mark.parametrize("name", HEADS)
def test_a_head_says_of_a_sequence_what_it_says_of_it_in_a_batch(
    name: str, reasoner: Reasoner, items: list[TimelineItem]
) -> None:
    with torch.no_grad():
        together = _parts(reasoner(Collator()(items))[name])
        for row, item in enumerate(items):
            alone = _parts(reasoner(Collator()([item]))[name])
            for whole, own in zip(together, alone, strict=True):
                same = whole[row][tuple(slice(0, n) for n in own.shape[1:])]
                torch.testing.assert_close(same, own[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_losses_and_counts_are_sums_over_sequences(name: str, reasoner: Reasoner, items: list[TimelineItem]) -> None:
    head = reasoner.tasks[name]
    batch = Collator()(items)
    singles = [Collator()([item]) for item in items]
    counts = [int(valid_items(single, head.items).sum()) for single in singles]
    assert int(valid_items(batch, head.items).sum()) == sum(counts) > 0
    with torch.no_grad():
        hits = head.hits(reasoner(batch)[name], batch)
    assert hits is None or 0 <= hits <= sum(counts)
    if head.contrastive:
        return
    with torch.no_grad():
        whole = head.loss(reasoner(batch)[name], batch)
        losses = [head.loss(reasoner(single)[name], single) for single in singles]
    assert not any(loss for loss, count in zip(losses, counts, strict=True) if not count)
    torch.testing.assert_close(whole, torch.stack(losses).sum(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_learns(name: str, reasoner: Reasoner, items: list[TimelineItem]) -> None:
    head, batch = reasoner.tasks[name], Collator()(items)
    reasoner.zero_grad()
    loss = head.loss(reasoner(batch)[name], batch)
    assert loss.dtype == torch.float32
    assert loss > 0
    loss.backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", HEADS)
def test_nothing_to_learn_from_gives_no_loss_and_no_gradient(
    name: str, reasoner: Reasoner, items: list[TimelineItem]
) -> None:
    nothing = {
        field: [] for field in ("questions", "events", "statements", "reports", "written", "report_targets", "boxes")
    }
    batch = Collator()([replace(item, record=replace(item.record, **nothing)) for item in items])
    assert not count_items(batch).any()
    reasoner.zero_grad()
    head = reasoner.tasks[name]
    loss = head.loss(reasoner(batch)[name], batch)
    assert loss == 0
    # Every parameter takes part, so that no process waits for the gradient of another.
    if list(head.parameters()):
        loss.backward()
    for parameter_name, parameter in head.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert not parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", HEADS)
def test_a_head_without_weight_is_not_built(
    name: str, model_config: Callable[..., dict[str, Any]], fitted: Fitted, items: list[TimelineItem]
) -> None:
    heads = task_heads()
    heads[name]["weight"] = 0.0
    reasoner = build_reasoner({**model_config("none"), "heads": heads}, fitted).eval()
    assert name not in reasoner.heads
    with torch.no_grad():
        assert name not in reasoner(Collator()(items[:1]))


def test_a_model_needs_a_head(model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> None:
    heads = {name: {**node, "weight": 0.0} for name, node in task_heads().items()}
    with pytest.raises(InputError, match="a task head with a weight above 0"):
        build_reasoner({**model_config("none"), "heads": heads}, fitted)


def _changed(batch: TimelineBatch, position: int) -> TimelineBatch:
    """The batch with other images after a position."""
    later = (batch.frame_index[:, 1] > position).numpy()
    assert later.any()
    images = batch.images.numpy().copy()
    images[later] = images[later, ..., ::-1]
    return replace(batch, images=torch.from_numpy(images))


def test_a_statement_is_judged_by_the_images_up_to_it(reasoner: Reasoner, items: list[TimelineItem]) -> None:
    batch = Collator()(items)
    with torch.no_grad():
        before, after = (reasoner(b)["statement"] for b in (batch, _changed(batch, 2)))
    early = batch.statement_position <= 2
    assert (early & batch.statement_mask).any()
    torch.testing.assert_close(before[early], after[early])
    assert not torch.allclose(before[~early], after[~early], atol=1e-3)

"""The box head: its loss by hand, its boxes in pixels, and that it learns where things are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

from temmed.data.batch import TimelineBatch, valid_items
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import build_records
from temmed.models.build import build_reasoner
from temmed.models.heads.box import BoxHead
from temmed.models.reasoner import Reasoner
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

from .conftest import task_heads, with_boxes


@pytest.fixture
def reasoner(model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> Reasoner:
    torch.manual_seed(0)
    return build_reasoner({**model_config("transformer"), "heads": {"box": task_heads()["box"]}}, fitted)


@pytest.fixture(scope="module")
def batch(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> TimelineBatch:
    records = [with_boxes(record) for record in build_records(tiny_timeline, split, "train", fitted)[:3]]
    dataset = SequenceDataset(records, DecodedPixels(ImageSource(tiny_timeline), fitted), len(fitted.sources))
    return Collator()([dataset[n] for n in range(3)])


def _corners(boxes: Tensor) -> Tensor:
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def test_loss_and_hits_are_those_of_all_pairs(reasoner: Reasoner, batch: TimelineBatch) -> None:
    head = reasoner.tasks["box"]
    assert isinstance(head, BoxHead)
    valid = valid_items(batch, "box")
    said = (batch.boxes + torch.linspace(-0.1, 0.1, batch.boxes.numel()).view_as(batch.boxes)).clamp(0.01, 0.99)
    found, truth = said[valid], batch.boxes[valid]
    overlap = generalized_box_iou(_corners(found), _corners(truth)).diagonal()
    expected = 5 * (found - truth).abs().sum() + 2 * (1 - overlap).sum()
    torch.testing.assert_close(head.loss(said, batch), expected)
    right = (box_iou(_corners(found), _corners(truth)).diagonal() >= 0.5).sum()
    assert 0 < right < len(found)
    assert head.hits(said, batch) == right


def test_truth_costs_nothing(reasoner: Reasoner, batch: TimelineBatch) -> None:
    head = reasoner.tasks["box"]
    count = valid_items(batch, "box").sum()
    assert head.loss(batch.boxes, batch) / count == pytest.approx(0, abs=1e-5)
    assert head.hits(batch.boxes, batch) == count


def test_rows_are_in_pixels_of_the_file(reasoner: Reasoner, batch: TimelineBatch, fitted: Fitted) -> None:
    rows = reasoner.tasks["box"].rows(batch.boxes, batch, fitted)["boxes"]
    boxes = [box for b, names in enumerate(batch.box_names) for box in batch.boxes[b, : len(names)]]
    assert len(rows) == len(boxes)
    for row, box in zip(rows, boxes, strict=True):
        # The images are 64 columns wide and 32 rows high.
        corners = _corners(box).clamp(0, 1) * torch.tensor([64, 32, 64, 32])
        assert [row["x1"], row["y1"], row["x2"], row["y2"]] == pytest.approx(corners.tolist(), abs=1e-4)


def test_later_images_are_not_read(reasoner: Reasoner, batch: TimelineBatch) -> None:
    reasoner.eval()
    later = (batch.frame_index[:, 1] > 0).numpy()
    images = batch.images.numpy().copy()
    images[later] = images[later, ..., ::-1]
    with torch.no_grad():
        before, after = (reasoner(b)["box"] for b in (batch, replace(batch, images=torch.from_numpy(images))))
    first = (batch.box_at == 0) & valid_items(batch, "box")
    torch.testing.assert_close(before[first], after[first])
    other = (batch.box_at > 0) & valid_items(batch, "box")
    assert not torch.allclose(before[other], after[other], atol=1e-4)


@pytest.mark.slow
def test_a_handful_is_learned_by_heart(reasoner: Reasoner, batch: TimelineBatch) -> None:
    head = reasoner.tasks["box"]
    optimizer = torch.optim.AdamW(reasoner.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        said = reasoner(batch)["box"]
        (head.loss(said, batch) / valid_items(batch, "box").sum()).backward()
        optimizer.step()
    valid = valid_items(batch, "box")
    overlap = box_iou(_corners(said[valid]), _corners(batch.boxes[valid])).diagonal()
    assert overlap.mean() > 0.7

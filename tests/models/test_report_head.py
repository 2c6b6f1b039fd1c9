"""The report head: what it reads, what it never reads, and what it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from temmed.data.batch import IGNORE, TimelineBatch
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import build_records
from temmed.models.build import build_reasoner
from temmed.models.heads.report import Dictation
from temmed.models.reasoner import Reasoner
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

from .conftest import task_heads


def _build(model: dict[str, Any], fitted: Fitted, **changes: Any) -> Reasoner:
    torch.manual_seed(0)
    head = {**task_heads()["report"], "width": 32, **changes}
    return build_reasoner({**model, "heads": {"report": head}}, fitted).eval()


@pytest.fixture(scope="module")
def reasoner(model_config: Callable[..., dict[str, Any]], fitted: Fitted) -> Reasoner:
    return _build(model_config("transformer"), fitted)


@pytest.fixture(scope="module")
def make_batch(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> Callable[..., TimelineBatch]:
    """``make_batch(reports)``: three sequences."""

    def make(reports: str, count: int = 3) -> TimelineBatch:
        records = build_records(tiny_timeline, split, "train", fitted)[:count]
        pixels = DecodedPixels(ImageSource(tiny_timeline), fitted)
        dataset = SequenceDataset(records, pixels, len(fitted.sources), reports=reports)
        return Collator(reports)([dataset[n] for n in range(count)])

    return make


@torch.no_grad()
def _said(reasoner: Reasoner, batch: TimelineBatch) -> Dictation:
    found = reasoner(batch)["report"]
    assert isinstance(found, Dictation)
    return found


def _texts(reasoner: Reasoner, batch: TimelineBatch, fitted: Fitted) -> dict[tuple[str, int], str]:
    with torch.no_grad():
        rows = reasoner.tasks["report"].rows(_said(reasoner, batch), batch, fitted)["reports"]
    return {(row["sequence_id"], row["position"]): row["text"] for row in rows}


def _rewritten(batch: TimelineBatch, column: int) -> TimelineBatch:
    """Other reports from a column on."""
    targets = batch.report_targets.clone()
    part = targets[:, column:]
    targets[:, column:] = torch.where(part == IGNORE, IGNORE, (part + 7) % 300 + 2)
    return replace(batch, report_targets=targets)


@pytest.mark.parametrize("reports", ["none", "past", "all"])
def test_what_is_to_be_written_is_never_read(
    reports: str, reasoner: Reasoner, make_batch: Callable[..., TimelineBatch], fitted: Fitted
) -> None:
    batch = make_batch(reports)
    changed = _rewritten(batch, 2)
    before, after = (_said(reasoner, b).sources for b in (batch, changed))
    column = batch.report_wanted.nonzero()[:, 1]
    same = [
        torch.equal(a[m], b[n]) for a, m, b, n in zip(before.states, before.mask, after.states, after.mask, strict=True)
    ]
    # The third report is written from the second; the fourth from the third, if reports are input.
    assert all(is_same == (int(n) <= 2 or reports == "none") for n, is_same in zip(column, same, strict=True))
    texts, others = (_texts(reasoner, b, fitted) for b in (batch, changed))
    asked = list(texts)
    assert all(texts[key] == others[key] for key, n in zip(asked, column, strict=True) if n <= 2 or reports == "none")


def test_later_images_are_not_read(reasoner: Reasoner, make_batch: Callable[..., TimelineBatch]) -> None:
    batch = make_batch("past")
    later = batch.frame_index[:, 1] > 2
    images = batch.images.numpy().copy()
    images[later.numpy()] = images[later.numpy(), ..., ::-1]
    changed = _said(reasoner, replace(batch, images=torch.from_numpy(images))).log_probability
    before = _said(reasoner, batch).log_probability
    early = batch.report_at <= 2
    torch.testing.assert_close(changed[early], before[early])
    assert not torch.allclose(changed[~early], before[~early], atol=1e-5)


def test_each_source_is_read(reasoner: Reasoner, make_batch: Callable[..., TimelineBatch]) -> None:
    batch = make_batch("past")
    before = _said(reasoner, batch).log_probability
    earlier = batch.frame_index[:, 1] < 2
    images = batch.images.numpy().copy()
    images[earlier.numpy()] = images[earlier.numpy(), ..., ::-1]
    for name, changed in (
        ("the images before", replace(batch, images=torch.from_numpy(images))),
        ("the report before", replace(batch, report_prior=torch.full_like(batch.report_prior, -1))),
        ("the moments", replace(batch, times=batch.times * 2)),
    ):
        late = batch.report_wanted & (batch.report_at >= 2)
        assert not torch.allclose(_said(reasoner, changed).log_probability[late], before[late], atol=1e-6), name


@pytest.mark.parametrize("temporal", ["none", "memory_fusion"])
def test_any_memory_will_do(
    temporal: str,
    model_config: Callable[..., dict[str, Any]],
    fitted: Fitted,
    make_batch: Callable[..., TimelineBatch],
) -> None:
    batch = make_batch("past")
    written = _texts(_build(model_config(temporal), fitted, longest=60), batch, fitted)
    assert len(written) == int(batch.report_wanted.sum())


def test_a_batch_without_reports_writes_none(
    reasoner: Reasoner, make_batch: Callable[..., TimelineBatch], fitted: Fitted
) -> None:
    batch = make_batch("past")
    assert _texts(reasoner, replace(batch, report_wanted=batch.report_wanted & False), fitted) == {}


@pytest.mark.slow
def test_a_handful_is_learned_by_heart_and_written(
    model_config: Callable[..., dict[str, Any]], fitted: Fitted, make_batch: Callable[..., TimelineBatch]
) -> None:
    reasoner, batch = _build(model_config("transformer"), fitted, width=64), make_batch("past", 2)
    head = reasoner.tasks["report"].train()
    with torch.no_grad():
        encoded = reasoner.encode(batch)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3)
    likely = torch.zeros(())
    # Likelier than all other texts together: then every way of searching must find it.
    for _ in range(1500):
        if likely >= 0.5:
            break
        optimizer.zero_grad()
        said = head(encoded)
        head.loss(said, batch).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        likely = said.log_probability.sum(dim=-1)[batch.report_wanted].exp().min()
    reasoner.eval()
    assert fitted.reports is not None
    truth = {
        (batch.sequence_ids[b], int(batch.report_at[b, w])): fitted.reports.decode(
            [token for token in batch.report_targets[b, w].tolist() if token != IGNORE]
        )
        for b, w in batch.report_wanted.nonzero().tolist()
    }
    for head.beams in (1, 3):
        assert _texts(reasoner, batch, fitted) == truth

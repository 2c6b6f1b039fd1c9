"""All task heads in one training, and what they write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import build_records
from temmed.evaluation.statements import judge_statements, statement_estimates, statement_truths
from temmed.predictions.tables import read_predictions, write_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.training.module import TimelineModule
from temmed.training.predict import predict, that_exist

from .conftest import task_heads, with_boxes


@pytest.mark.slow
def test_all_heads_learn_a_handful_by_heart_and_write_it_down(
    model_config: Callable[..., dict[str, Any]], tiny_timeline: Timeline, split: Split, fitted: Fitted, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    provenance = {"dataset": {"fingerprint": tiny_timeline.meta.fingerprint}}
    module = TimelineModule({**model_config(), "heads": task_heads()}, fitted.to_dict(), provenance)
    records = [with_boxes(r) for r in build_records(tiny_timeline, split, "train", fitted, needs_written=True)[:4]]
    dataset = SequenceDataset(records, DecodedPixels(ImageSource(tiny_timeline), fitted), len(fitted.sources))
    loader = DataLoader(dataset, batch_size=len(records), collate_fn=Collator())
    batch = next(iter(loader))
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    course = []
    for _ in range(80):
        means = module.reasoner.losses(module(batch), batch) / module.count(batch)
        course.append(means.detach())
        optimizer.zero_grad()
        means.sum().backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    for name, first, last in zip(module.tasks, course[0], course[-1], strict=True):
        assert last < 0.7 * first, name

    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    tables = predict(module, loader, tiny_timeline, split.questions(tiny_timeline, "train"), trainer)
    write_predictions(tmp_path / "p", **that_exist(tables, tiny_timeline))
    written = read_predictions(tmp_path / "p")
    assert written.answers["answer"].notna().any()
    assert written.events is not None
    assert len(written.events) == sum(len(record.events) for record in records)
    assert written.events["score"].between(0, 1).all()
    truths = statement_truths(tiny_timeline, split, "train")
    truths = truths[truths["statement_id"].isin([s.identity for record in records for s in record.statements])]
    found = dict(statement_estimates(judge_statements(truths, written), 20, 0))
    assert found["statement_error"].value < 0.2  # a constant verdict has 0.5

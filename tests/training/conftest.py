"""A tiny module on the tiny folder, and loaders in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from temmed.data.batching import Budget
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.records import build_records
from temmed.data.samplers import EpochBatchSampler
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split
from temmed.training.module import TimelineModule
from temmed.training.schedules import constant

#: A trainer that prints nothing and writes nothing.
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
TASKS = ["event", "progression"]
SGD = partial(torch.optim.SGD, lr=0.1)
#: Answers to earlier questions are heard, true ones less and less.
SCHEDULED = {
    "_target_": "temmed.models.previous_answers.PreviousAnswers",
    "dim": 16,
    "heads": 2,
    "epsilon": {"_target_": "temmed.models.previous_answers.linear", "_partial_": True},
}


@pytest.fixture(scope="session")
def make_loader(tiny_timeline: Timeline, split: Split, fitted: Fitted) -> Callable[..., DataLoader]:
    """``make_loader(batch_size, first=8)``: the first sequences of a subset, in order."""

    def make(batch_size: int, first: int = 8, subset: str = "train") -> DataLoader:
        records = build_records(tiny_timeline, split, subset, fitted)[:first]
        dataset = SequenceDataset(records, DecodedPixels(ImageSource(tiny_timeline), fitted), len(fitted.sources))
        sampler = EpochBatchSampler(dataset.sizes, Budget(batch_size), shuffle=False)
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=Collator())

    return make


@pytest.fixture
def make_module(
    model_config: Callable[..., dict[str, Any]], fitted: Fitted, tiny_timeline: Timeline
) -> Callable[..., TimelineModule]:
    """``make_module(seed, temporal)``: fresh weights, SGD with rate 0.1 unless another optimizer is given.

    ``weights`` of task heads differ from the default, by name.
    """

    def make(
        seed: int = 0,
        temporal: str = "memory_fusion",
        vocabulary: Fitted = fitted,
        optimizer: Callable[..., torch.optim.Optimizer] = SGD,
        weights: Mapping[str, float] | None = None,
    ) -> TimelineModule:
        torch.manual_seed(seed)
        model = model_config(temporal)
        for name, weight in (weights or {}).items():
            model["heads"][name]["weight"] = weight
        return TimelineModule(
            model,
            vocabulary.to_dict(),
            {"tasks": TASKS, "dataset": {"fingerprint": tiny_timeline.meta.fingerprint}},
            optimizer=optimizer,
            scheduler=constant,
        )

    return make

"""Ragged sequences made by hand, and what a small model says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from temmed.data.batch import TimelineBatch
from temmed.data.collate import Collator
from temmed.data.dataset import TimelineItem
from temmed.data.fitted import Fitted
from temmed.data.pixels import PixelStack
from temmed.data.records import Event, Question, Record, Statement
from temmed.models.build import build_reasoner
from temmed.models.reasoner import Reasoner

LENGTH = 9
#: Task heads that take all images at once.
AT_ONCE = ("report", "box")


def make_item(number: int, length: int, asked_from: int = 0) -> TimelineItem:
    """A sequence with every other position left out, missing images, questions, events and a report."""
    rng = np.random.default_rng(number)
    positions = np.cumsum(rng.integers(1, 4, length)) - 1
    imaged = rng.random(length) < 0.7
    imaged[0] = True
    asked = rng.integers(min(asked_from, length - 1), length, 5)
    questions = [
        Question(
            f"{q}", "event", "", [2 + q, 4], [[3], [5 + q]], int(at), q % 2, None, 0.5, [int(at) // 2, int(at)], q % 2
        )
        for q, at in enumerate(asked)
    ]
    targets = np.where(imaged, rng.integers(0, 2, length), -100)
    events = [Event("e", [6, 7], targets, (0.0, 0.0, 1.0, 1.0))]
    reports = [([2, 5, 6], length // 2)]
    statements = [Statement(f"s{p}", [3, 6, int(p) % 5 + 2], int(p), bool(p % 2)) for p in asked]
    written = [([3, 4, number + 2], length - 1), ([2, 7], 0)]
    record = Record(
        str(number), 2, positions * 3.5, imaged, questions, events, statements, reports, positions, str(number), written
    )
    images = rng.integers(0, 1000, (int(imaged.sum()), 2, 16, 16)).astype(np.uint16)
    stack = PixelStack(images, np.arange(len(images)), (0, 1), np.ones(images.shape[:2], bool))
    return TimelineItem(record, stack, np.flatnonzero(imaged).tolist(), 2)


def make_batch(asked_from: int = 0) -> TimelineBatch:
    return Collator("past")([make_item(n, length, asked_from) for n, length in enumerate((LENGTH, 4, 1))])


def make_model(config: dict[str, Any], fitted: Fitted) -> Reasoner:
    """With every task head that can read in chunks."""
    torch.manual_seed(0)
    heads = {name: {**head, "weight": float(name not in AT_ONCE)} for name, head in config["heads"].items()}
    model = build_reasoner(config | {"heads": heads}, fitted)
    with torch.no_grad():
        for parameter in model.parameters():  # zeros hide mistakes
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


def outcome(model: Reasoner, batch: TimelineBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a model says of what is asked, with its losses; and its gradients."""
    model.zero_grad()
    output = model(batch)
    losses = model.losses(output, batch)
    losses.sum().backward()
    said = {"losses": losses.detach()}
    for name, found in output.items():
        parts = {"": found} if isinstance(found, Tensor) else {} if found is None else vars(found)
        said |= {name + part: x.detach().nan_to_num(neginf=-1e3) for part, x in parts.items()}
    return said, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(left: dict[str, Tensor], right: dict[str, Tensor], tolerance: float) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        scale = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(
            right[name], value, atol=tolerance * scale, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )

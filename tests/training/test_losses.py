"""Losses: equal to a loop over items, and whole steps equal to one large batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from temmed.data.batch import IGNORE, TimelineBatch
from temmed.data.samplers import WindowLoader
from temmed.training.module import TimelineModule

from .conftest import QUIET


def _naive(output: dict[str, Any], batch: TimelineBatch) -> tuple[dict[str, float], dict[str, int]]:
    names = ("answer", "value", "event", "evidence")
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)

    def add(name: str, loss: float) -> None:
        sums[name] += loss
        counts[name] += 1

    for b, identities in enumerate(batch.question_ids):
        for q in range(len(identities)):
            if (answer := int(batch.answers[b, q])) != IGNORE:
                logits = output["answer"][b, q][batch.choice_mask[b, q]].double()
                add("answer", float(logits.exp().sum().log() - logits[answer]))
            if not math.isnan(value := float(batch.values[b, q])):
                error = abs(float(output["value"][b, q]) - value)
                add("value", 0.5 * error**2 if error < 0.5 else 0.5 * (error - 0.25))
            if evidence := batch.evidence[b, q].nonzero().flatten().tolist():
                loss = 0.0
                if output["evidence"] is not None:
                    ends = zip(output["evidence"][b, q], (min(evidence), max(evidence)), strict=True)
                    loss = sum(-math.log(max(float(p[t]), 1e-6)) for p, t in ends) / 2
                add("evidence", loss)
        for e in range(len(batch.event_labels[b])):
            for t, target in enumerate(batch.event_targets[b, e].tolist()):
                if target != IGNORE:
                    logit = float(output["event"][b, e, t])
                    add("event", math.log1p(math.exp(-logit if target else logit)))
    return sums, counts


@pytest.mark.parametrize("temporal", ["memory_fusion", "none"])
def test_losses_equal_a_loop_over_items(
    make_module: Callable[..., TimelineModule], make_loader: Callable[..., DataLoader], temporal: str
) -> None:
    batch = next(iter(make_loader(6)))
    with torch.no_grad():
        module = make_module(temporal=temporal).eval()
        output = module(batch)
        sums, counts = module.reasoner.losses(output, batch), module.count(batch)
    expected_sums, expected_counts = _naive(output, batch)
    assert counts.tolist() == [expected_counts[name] for name in module.tasks]
    assert min(counts) > 0
    assert sums.tolist() == pytest.approx([expected_sums[name] for name in module.tasks], rel=1e-4)


def _train_one_step(module: TimelineModule, loader: WindowLoader, accumulate: int) -> dict[str, Tensor]:
    trainer = pl.Trainer(**QUIET, max_steps=1, accumulate_grad_batches=accumulate)
    trainer.fit(module, loader)
    assert trainer.global_step == 1
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def test_accumulated_micro_batches_step_as_the_joined_batch(
    make_module: Callable[..., TimelineModule], make_loader: Callable[..., DataLoader]
) -> None:
    start = {name: parameter.detach().clone() for name, parameter in make_module().named_parameters()}
    joined = _train_one_step(make_module(), WindowLoader(make_loader(8), 1), 1)
    # 8 sequences as 5 and 3: micro-batches of unlike size must not be averaged as equals.
    parts = _train_one_step(make_module(), WindowLoader(make_loader(5), 2), 2)
    moved = 0.0
    for name, parameter in joined.items():
        torch.testing.assert_close(parts[name], parameter, atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        moved = max(moved, float((parameter - start[name]).abs().max()))
    assert moved > 1e-3


def test_incomplete_last_window_counts_fully(
    make_module: Callable[..., TimelineModule], make_loader: Callable[..., DataLoader]
) -> None:
    whole = _train_one_step(make_module(), WindowLoader(make_loader(8), 1), 1)
    # Two batches, a window of three: Lightning steps at the end of the epoch.
    rest = _train_one_step(make_module(), WindowLoader(make_loader(4), 3), 3)
    for name, parameter in whole.items():
        torch.testing.assert_close(rest[name], parameter, atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_mean_over_processes_is_the_loss_of_the_joined_batch(
    make_module: Callable[..., TimelineModule],
    make_loader: Callable[..., DataLoader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = make_module().eval()
    monkeypatch.setattr(module, "log_dict", lambda *args, **kwargs: None)

    def losses(batch_size: int, world: int) -> list[Tensor]:
        batches = list(make_loader(batch_size))
        everywhere = torch.stack([module.count(batch) for batch in batches]).sum(dim=0)
        trainer = SimpleNamespace(world_size=world, accumulate_grad_batches=1, global_step=0)
        monkeypatch.setattr(module, "_trainer", trainer)
        monkeypatch.setattr(module, "_sum_over_processes", lambda counts: everywhere)
        assert len(batches) == world
        return [module.training_step(batch, 0) for batch in batches]

    with torch.no_grad():
        (joined,) = losses(8, 1)
        ranks = losses(5, 2)
    torch.testing.assert_close(torch.stack(ranks).mean(), joined, atol=1e-6, rtol=1e-5)


def test_confident_but_wrong_pointer_has_a_finite_loss(
    make_module: Callable[..., TimelineModule], make_loader: Callable[..., DataLoader]
) -> None:
    batch = next(iter(make_loader(4)))
    with torch.no_grad():
        module = make_module().eval()
        output = module(batch)
        output["evidence"] = torch.zeros_like(output["evidence"])
        assert module.reasoner.losses(output, batch).isfinite().all()

"""Losses, each as a sum over the items that count and their number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from temmed.data.batch import IGNORE, TimelineBatch
from temmed.models.reasoner import ReasonerOutput

TASKS = ("answer", "value", "event", "evidence")


@dataclass
class Total:
    """A sum over items and how many there were."""

    loss: Tensor
    count: Tensor


def losses(output: ReasonerOutput, batch: TimelineBatch) -> dict[str, Total]:
    """The loss of each task over a batch.

    Args:
        output: of the model.
        batch: what it was given.

    Returns:
        For ``answer`` the cross-entropy over choices, for ``value`` the Huber loss on the fitted scale, for ``event``
        the binary cross-entropy over positions, for ``evidence`` the cross-entropy of the two pointers; each summed
        over valid items, with their number.
    """
    return {
        "answer": _answer(output, batch),
        "value": _value(output, batch),
        "event": _event(output, batch),
        "evidence": _evidence(output, batch),
    }


def _answer(output: ReasonerOutput, batch: TimelineBatch) -> Total:
    valid = batch.question_mask & (batch.answers != IGNORE)
    loss = functional.cross_entropy(output.answer_logits[valid].float(), batch.answers[valid], reduction="sum")
    return Total(loss, valid.sum())


def _value(output: ReasonerOutput, batch: TimelineBatch) -> Total:
    valid = batch.question_mask & batch.values.isfinite()
    loss = functional.huber_loss(output.values[valid].float(), batch.values[valid], reduction="sum", delta=0.5)
    return Total(loss, valid.sum())


def _event(output: ReasonerOutput, batch: TimelineBatch) -> Total:
    valid = batch.event_targets != IGNORE
    loss = functional.binary_cross_entropy_with_logits(
        output.event_logits[valid].float(), batch.event_targets[valid].float(), reduction="sum"
    )
    return Total(loss, valid.sum())


def _evidence(output: ReasonerOutput, batch: TimelineBatch) -> Total:
    valid = batch.question_mask & batch.evidence.any(dim=-1)
    if output.pointers is None:
        return Total(output.values.new_zeros(()), torch.zeros_like(valid.sum()))
    positions = torch.arange(batch.evidence.shape[-1], device=valid.device)
    evidence = batch.evidence[valid]
    earliest = torch.where(evidence, positions, positions[-1] + 1).min(dim=-1).values
    latest = torch.where(evidence, positions, -1).max(dim=-1).values
    target = torch.stack([earliest, latest], dim=-1)
    chosen = output.pointers[valid].float().gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return Total(-chosen.clamp(min=1e-6).log().sum() / 2, valid.sum())

"""The loss of each task, summed over the items that count."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from temmed.data.batch import TimelineBatch, valid_items
from temmed.models.reasoner import ReasonerOutput


def loss_sums(output: ReasonerOutput, batch: TimelineBatch) -> Tensor:
    """Sums of the losses over valid items; `temmed.data.batch.count_items` says how many there are.

    Args:
        output: of the model.
        batch: what it was given.

    Returns:
        ``(len(COUNTED),)``: for ``answer`` the cross-entropy over choices, for ``value`` the Huber loss on the fitted
        scale, for ``event`` the binary cross-entropy over positions, for ``evidence`` the mean cross-entropy of the
        two pointers.
    """
    valid = valid_items(batch)
    return torch.stack(
        [
            functional.cross_entropy(
                output.answer_logits[valid["answer"]].float(), batch.answers[valid["answer"]], reduction="sum"
            ),
            functional.huber_loss(
                output.values[valid["value"]].float(), batch.values[valid["value"]], reduction="sum", delta=0.5
            ),
            functional.binary_cross_entropy_with_logits(
                output.event_logits[valid["event"]].float(),
                batch.event_targets[valid["event"]].float(),
                reduction="sum",
            ),
            _evidence(output.pointers, batch.evidence, valid["evidence"]),
        ]
    )


def _evidence(pointers: Tensor | None, evidence: Tensor, valid: Tensor) -> Tensor:
    if pointers is None:
        return torch.zeros((), device=evidence.device)
    positions = torch.arange(evidence.shape[-1], device=evidence.device)
    evidence = evidence[valid]
    earliest = torch.where(evidence, positions, len(positions)).min(dim=-1).values
    latest = torch.where(evidence, positions, -1).max(dim=-1).values
    target = torch.stack([earliest, latest], dim=-1).unsqueeze(-1)
    chosen = pointers[valid].float().gather(-1, target).squeeze(-1)
    return -chosen.clamp(min=1e-6).log().sum() / 2

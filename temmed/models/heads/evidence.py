"""Points at the evidence of an answer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from temmed.data.batch import TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.models.heads.base import Encoded, Rows, TaskHead


class EvidenceHead(TaskHead):
    """Trains the pointers of the reader, and has no parameters of its own. For the arguments see `TaskHead`."""

    texts = ("prompts",)
    items = "evidence"

    def forward(self, encoded: Encoded) -> Tensor | None:
        """``(B, Q, 2, T)`` probability of each position to be the earliest and the latest evidence.

        ``None`` where the memory has no addresses.
        """
        return encoded.reading.pointers

    def loss(self, said: Tensor | None, batch: TimelineBatch) -> Tensor:
        """Mean cross-entropy of the two pointers; 0 where there are none."""
        evidence = batch.evidence
        if said is None:
            return torch.zeros((), device=evidence.device)
        valid = valid_items(batch, self.items)
        positions = torch.arange(evidence.shape[-1], device=evidence.device)
        evidence = evidence[valid]
        earliest = torch.where(evidence, positions, len(positions)).min(dim=-1).values
        latest = torch.where(evidence, positions, -1).max(dim=-1).values
        target = torch.stack([earliest, latest], dim=-1).unsqueeze(-1)
        chosen = said[valid].float().gather(-1, target).squeeze(-1)
        return -chosen.clamp(min=1e-6).log().sum() / 2

    def rows(self, said: Tensor | None, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """``answers``: the likeliest positions; without pointers the one asked at."""
        named, asked_at = batch.positions.cpu().numpy(), batch.asked_at.cpu().numpy()
        cited = asked_at[..., None] if said is None else said.argmax(dim=-1).cpu().numpy()
        return {
            "answers": [
                {"evidence": named[b, np.unique(cited[b, q])].tolist()}
                for b, identities in enumerate(batch.question_ids)
                for q in range(len(identities))
            ]
        }

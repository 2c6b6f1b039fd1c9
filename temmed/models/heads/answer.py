"""Answers questions that offer choices."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.data.batch import TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.models.heads.base import Encoded, Rows, Sizes, TaskHead


class AnswerHead(TaskHead):
    """Scores each choice by its text, so that the set of choices is open. For the arguments see `TaskHead`."""

    texts = ("prompts", "choices")
    items = "answer"
    outputs = ("feature",)

    def __init__(self, sizes: Sizes, weight: float, early_weight: float | None = None) -> None:
        super().__init__(sizes, weight, early_weight)
        self.choice = nn.Linear(sizes.dim, sizes.dim)
        self.feature = nn.Linear(sizes.dim, sizes.dim)

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits ``(B, Q, K)``; −inf where there is no choice."""
        features, choices = encoded.reading.features, encoded.texts["choices"]
        logits = torch.einsum("bqd,bqkd->bqk", self.feature(features), self.choice(choices))
        return (logits * features.shape[-1] ** -0.5).masked_fill(~encoded.batch.choice_mask, -torch.inf)

    def loss(self, said: Tensor, batch: TimelineBatch) -> Tensor:
        """Cross-entropy over the choices."""
        valid = valid_items(batch, self.items)
        return functional.cross_entropy(said[valid].float(), batch.answers[valid], reduction="sum")

    def rows(self, said: Tensor, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """``answers``: probabilities of the choices, ``None`` for a question without."""
        return {"answers": probability_rows(said, batch)}


def probability_rows(logits: Tensor, batch: TimelineBatch) -> list[dict[str, list[float] | None]]:
    """Probabilities of the choices of each question in the order of the batch, ``None`` for a question without.

    Args:
        logits: ``(B, Q, K)``; −inf where there is no choice.
        batch: whose questions they are of.
    """
    probabilities = logits.float().softmax(dim=-1).cpu().numpy()
    offered = batch.choice_mask.sum(dim=-1).tolist()
    return [
        {"probabilities": probabilities[b, q, : offered[b][q]].tolist() if offered[b][q] else None}
        for b, identities in enumerate(batch.question_ids)
        for q in range(len(identities))
    ]

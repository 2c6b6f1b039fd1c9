"""Task heads: from what a question read to an answer, a value, an event, a piece of evidence."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AnswerHead(nn.Module):
    """Scores each choice by its text, so that the set of choices is open.

    Args:
        dim: size of features and encoded choices.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.choice = nn.Linear(dim, dim)
        self.feature = nn.Linear(dim, dim)

    def forward(self, features: Tensor, choices: Tensor, choice_mask: Tensor) -> Tensor:
        """Logits ``(B, Q, K)`` from features ``(B, Q, D)``, choices ``(B, Q, K, D)``; −inf where there is none."""
        logits = torch.einsum("bqd,bqkd->bqk", self.feature(features), self.choice(choices))
        return (logits * features.shape[-1] ** -0.5).masked_fill(~choice_mask, -torch.inf)


class ValueHead(nn.Module):
    """Regresses a value on the scale fitted by the data module (standardised, in logarithm where all are positive)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 1))

    def forward(self, features: Tensor) -> Tensor:
        """``(B, Q, D) → (B, Q)``."""
        return self.out(features).squeeze(-1)


class EventHead(nn.Module):
    """Says at which positions a labelled event is on, from each position's own image.

    Args:
        dim: size of the encoded label.
        read: size of what the reader brings from an image.
    """

    def __init__(self, dim: int, read: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(dim + read, 2 * dim), nn.GELU(), nn.Linear(2 * dim, 1))

    def forward(self, labels: Tensor, read: Tensor) -> Tensor:
        """Logits ``(B, E, T)`` from labels ``(B, E, D)`` and readings ``(B, E, T, R)``."""
        labels = labels.unsqueeze(2).expand(*read.shape[:3], -1)
        return self.out(torch.cat([labels, read], dim=-1)).squeeze(-1)

"""Tasks of a model that writes its answers: choices and values, both as texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from temmed.data.batch import TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.models.heads.answer import probability_rows
from temmed.models.heads.base import Rows, TaskHead


class WrittenAnswer(TaskHead):
    """How likely the language model is to write each choice. For the arguments see `TaskHead`."""

    writes = True  # its ``forward`` is given a `Conversation`
    texts = ()
    items = "answer"

    def forward(self, encoded: Any) -> Tensor:
        """Log-probabilities ``(B, Q, K)`` of the texts; see `Conversation.choices`."""
        told: Tensor = encoded.choices()
        return told

    def loss(self, said: Tensor, batch: TimelineBatch) -> Tensor:
        """Minus the log-probability of the text of the answer: of its tokens, and of none of the prompt's."""
        valid = valid_items(batch, self.items)
        return -said[valid].gather(1, batch.answers[valid].unsqueeze(1)).sum()

    def rows(self, said: Tensor, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """``answers``: probabilities among the choices, ``None`` for a question without."""
        return {"answers": probability_rows(said, batch)}


class WrittenValue(TaskHead):
    """How likely the language model is to write the true value. For the arguments see `TaskHead`."""

    writes = True  # its ``forward`` is given a `Conversation`
    texts = ()
    items = "value"

    def forward(self, encoded: Any) -> Tensor:
        """Log-probabilities ``(B, Q)`` of the texts of the true values, 0 where there is none."""
        told: Tensor = encoded.values()
        return told

    def loss(self, said: Tensor, batch: TimelineBatch) -> Tensor:
        """Minus the log-probability of the text of the value."""
        return -torch.sum(said)

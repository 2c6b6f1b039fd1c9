"""Answers questions with a number."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from temmed.data.batch import TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.models.heads.base import Encoded, Rows, Sizes, TaskHead


class ValueHead(TaskHead):
    """Regresses a value on the scale fitted by the data module (standardised, in logarithm where all are positive).

    For the arguments see `TaskHead`.
    """

    texts = ("prompts",)
    items = "value"
    outputs = ("out.2",)

    def __init__(self, sizes: Sizes, weight: float, early_weight: float | None = None) -> None:
        super().__init__(sizes, weight, early_weight)
        self.out = nn.Sequential(nn.Linear(sizes.dim, sizes.dim), nn.GELU(), nn.Linear(sizes.dim, 1))

    def forward(self, encoded: Encoded) -> Tensor:
        """``(B, Q)``."""
        return self.out(encoded.reading.features).squeeze(-1)

    def loss(self, said: Tensor, batch: TimelineBatch) -> Tensor:
        """Huber loss on the fitted scale."""
        valid = valid_items(batch, self.items)
        return functional.huber_loss(said[valid].float(), batch.values[valid], reduction="sum", delta=0.5)

    def rows(self, said: Tensor, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """``answers``: the value in its own unit, ``None`` for a question with choices."""
        values = fitted.values.inverse(said.double().cpu().numpy())
        offered = batch.choice_mask.any(dim=-1).tolist()
        return {
            "answers": [
                {"value": None if offered[b][q] else float(values[b, q])}
                for b, identities in enumerate(batch.question_ids)
                for q in range(len(identities))
            ]
        }

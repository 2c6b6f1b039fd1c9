"""Judges whether a sentence of a report agrees with the images up to its position."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from temmed.data.batch import TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.models.encodings import encode_named
from temmed.models.heads.base import Encoded, Rows, Sizes, TaskHead


class StatementHead(TaskHead):
    """Reads with the sentence as with a question, asked at its position. For the arguments see `TaskHead`.

    Visual entailment (Xie et al. 2019) asks whether one image bears out a sentence; here it is a sequence up to a
    position. Reports that are input are not read: the sentence may be taken from one.
    """

    texts = ("statements",)
    items = "statement"
    outputs = ("out.2",)

    def __init__(self, sizes: Sizes, weight: float, early_weight: float | None = None) -> None:
        super().__init__(sizes, weight, early_weight)
        self.out = nn.Sequential(nn.Linear(sizes.dim, sizes.dim), nn.GELU(), nn.Linear(sizes.dim, 1))

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits ``(B, S)`` of being true."""
        batch = encoded.batch
        named = encode_named(batch.statement_named)
        return self.out(encoded.ask(encoded.texts["statements"], batch.statement_position, named)).squeeze(-1)

    def loss(self, said: Tensor, batch: TimelineBatch) -> Tensor:
        """Binary cross-entropy."""
        valid = valid_items(batch, self.items)
        targets = batch.statement_consistent[valid].float()
        return functional.binary_cross_entropy_with_logits(said[valid].float(), targets, reduction="sum")

    def hits(self, said: Tensor, batch: TimelineBatch) -> Tensor:
        """How many verdicts are right."""
        return (((said > 0) == batch.statement_consistent) & valid_items(batch, self.items)).sum()

    def rows(self, said: Tensor, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """``statements``: the probability that each is true."""
        probability = said.float().sigmoid().tolist()
        return {
            "statements": [
                {"statement_id": identity, "probability": probability[b][s]}
                for b, identities in enumerate(batch.statement_ids)
                for s, identity in enumerate(identities)
            ]
        }

"""Says at which positions a labelled event is on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from temmed.data.batch import TimelineBatch, valid_items
from temmed.data.fitted import Fitted
from temmed.models.heads.base import Encoded, Rows, Sizes, TaskHead


class EventHead(TaskHead):
    """Judges each position by its own image. For the arguments see `TaskHead`."""

    texts = ("event_prompts",)
    items = "event"
    outputs = ("out.2",)

    def __init__(self, sizes: Sizes, weight: float, early_weight: float | None = None) -> None:
        super().__init__(sizes, weight, early_weight)
        self.out = nn.Sequential(
            nn.Linear(sizes.dim + sizes.read, 2 * sizes.dim), nn.GELU(), nn.Linear(2 * sizes.dim, 1)
        )

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits ``(B, E, T)``."""
        labels = encoded.texts["event_prompts"]
        read = encoded.look(labels)
        labels = labels.unsqueeze(2).expand(*read.shape[:3], -1)
        return self.out(torch.cat([labels, read], dim=-1)).squeeze(-1)

    def loss(self, said: Tensor, batch: TimelineBatch) -> Tensor:
        """Binary cross-entropy over the positions where it is known."""
        valid = valid_items(batch, self.items)
        targets = batch.event_targets[valid].float()
        return functional.binary_cross_entropy_with_logits(said[valid].float(), targets, reduction="sum")

    def rows(self, said: Tensor, batch: TimelineBatch, fitted: Fitted) -> Rows:
        """``events``: what the images of a sequence say of each label."""
        presence = said.float().sigmoid().cpu().numpy()
        imaged, named = batch.image_mask.cpu().numpy(), batch.positions.cpu().numpy()
        return {
            "events": [
                {
                    "sequence_id": batch.sequence_ids[b],
                    "label": label,
                    "positions": named[b, imaged[b]].tolist(),
                    **_stay(presence[b, e, imaged[b]]),
                }
                for b, labels in enumerate(batch.event_labels)
                for e, label in enumerate(labels)
            ]
        }


def _stay(presence: NDArray[np.float32]) -> dict[str, Any]:
    """First and last image of an event, from the probability that it is on in each.

    The event is taken to be on from the first to the last image in which it is likelier on than off.
    """
    if not len(presence):
        return {"first": None, "last": None, "score": None}
    on = np.flatnonzero(presence > 0.5)
    if not len(on):
        return {"first": None, "last": None, "score": float(1 - presence.max())}
    first, last = int(on[0]), int(on[-1])
    return {"first": first, "last": last, "score": float(presence[first : last + 1].mean())}

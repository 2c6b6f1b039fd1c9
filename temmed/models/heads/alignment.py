"""Embeds a report and the images it was written on at one place, apart from those of other patients.

The contrast is that of CLIP (Radford et al. 2021), with a learned temperature that is kept from below; the images are a
sequence up to the position of the report, and reports of the same patient are no negatives: they may say the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.data.batch import TimelineBatch, valid_items
from temmed.models.heads.base import Encoded, Sizes, TaskHead
from temmed.models.heads.gathering import gather_rows
from temmed.models.temperature import Temperature


@dataclass
class Aligned:
    """Embeddings of length 1, each ``(B, R, size)``: of the images up to a report, and of the report."""

    images: Tensor
    reports: Tensor


class AlignmentHead(TaskHead):
    """Matches sequences with reports.

    In training the negatives are those of all processes; in validation those of the batch.

    Args:
        sizes: what it is built for.
        weight: of its loss.
        early_weight: see `TaskHead`.
        size: of an embedding.
        queries: learned questions that are asked at the position of a report.
        temperature: at the start.
        least_temperature: it never falls below.
    """

    texts = ("written",)
    items = "alignment"
    outputs = ("image",)
    contrastive = True

    def __init__(
        self,
        sizes: Sizes,
        weight: float,
        early_weight: float | None = None,
        size: int = 64,
        queries: int = 4,
        temperature: float = 0.07,
        least_temperature: float = 0.01,
    ) -> None:
        super().__init__(sizes, weight, early_weight)
        self.queries = nn.Parameter(torch.randn(queries, sizes.dim))
        self.image = nn.Linear(queries * sizes.dim, size)
        self.report = nn.Linear(sizes.dim, size)
        self.temperature = Temperature(temperature, least_temperature)

    def forward(self, encoded: Encoded) -> Aligned:
        """Embeddings of every report and of the images up to it."""
        at = encoded.batch.written_at
        prompts = self.queries.expand(*at.shape, -1, -1).flatten(1, 2)
        seen = encoded.ask(prompts, at.repeat_interleave(len(self.queries), dim=1))
        images = self.image(seen.unflatten(1, (at.shape[1], len(self.queries))).flatten(2))
        reports = self.report(encoded.texts["written"])
        return Aligned(functional.normalize(images.float(), dim=-1), functional.normalize(reports.float(), dim=-1))

    def loss(self, said: Aligned, batch: TimelineBatch) -> Tensor:
        """Mean of the cross-entropies of finding the report of the images, and the images of the report."""
        (to_reports, own), (to_images, _) = self._logits(said, batch)
        losses = [functional.cross_entropy(logits, own, reduction="sum") for logits in (to_reports, to_images)]
        return (losses[0] + losses[1]) / 2

    def hits(self, said: Aligned, batch: TimelineBatch) -> Tensor:
        """How often the own report is the nearest of the images."""
        (logits, own), _ = self._logits(said, batch)
        return (logits.argmax(dim=-1) == own).sum() if len(own) else own.sum()

    def _logits(self, said: Aligned, batch: TimelineBatch) -> list[tuple[Tensor, Tensor]]:
        """Scores of all candidates for each own item, and which one is right: for images, then for reports."""
        valid = valid_items(batch, self.items)
        patients = batch.patients.unsqueeze(1).expand_as(valid)[valid]
        images, reports = said.images[valid], said.reports[valid]
        everyone, first = gather_rows(patients) if self.training else (patients, 0)
        own = torch.arange(first, first + len(patients), device=patients.device)
        alike = (patients.unsqueeze(1) == everyone).scatter(1, own.unsqueeze(1), False)
        found = []
        for anchors, others in ((images, reports), (reports, images)):
            candidates, _ = gather_rows(others) if self.training else (others, 0)
            found.append(((self.temperature(anchors) @ candidates.T).masked_fill(alike, -torch.inf), own))
        return found

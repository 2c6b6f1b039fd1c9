"""Chooses the pair of images that a sentence describes.

The task is image-pair selection of TemMed-Bench (arXiv 2509.25143): which of several pairs, an earlier image and a
later one, shows the change that a sentence tells. Here the options are all pairs of the batch, of other patients and of
the same one, instead of three; pairs of which the very sentence is true as well are no options.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.data.batch import TimelineBatch, earlier_images, valid_items
from temmed.models.heads.base import Encoded, Sizes, TaskHead
from temmed.models.temperature import Temperature


@dataclass
class Pairs:
    """Embeddings of length 1, each ``(B, S, size)``: of a statement, and of its image with the one before."""

    sentences: Tensor
    pairs: Tensor


class SelectionHead(TaskHead):
    """Matches true statements with pairs of images.

    A pair is embedded without the sentence, from the later image and its difference to the earlier one, as learned
    questions read them; so pairs are embedded once, whatever is asked.

    Args:
        sizes: what it is built for.
        weight: of its loss.
        early_weight: see `TaskHead`.
        size: of an embedding.
        queries: learned questions that each image is read with.
        temperature: at the start.
        least_temperature: it never falls below.
    """

    texts = ("statements",)
    items = "selection"
    outputs = ("pair.2",)
    contrastive = True

    def __init__(
        self,
        sizes: Sizes,
        weight: float,
        early_weight: float | None = None,
        size: int = 64,
        queries: int = 8,
        temperature: float = 0.07,
        least_temperature: float = 0.01,
    ) -> None:
        super().__init__(sizes, weight, early_weight)
        self.queries = nn.Parameter(torch.randn(queries, sizes.dim))
        self.pair = nn.Sequential(
            nn.Linear(2 * queries * sizes.read, 2 * sizes.dim), nn.GELU(), nn.Linear(2 * sizes.dim, size)
        )
        self.sentence = nn.Linear(sizes.dim, size)
        self.temperature = Temperature(temperature, least_temperature)

    def forward(self, encoded: Encoded) -> Pairs:
        """Embeddings of every statement and of the pair that ends at its position."""
        batch, size = encoded.batch, len(encoded.batch)
        later = batch.statement_position
        earlier = earlier_images(batch).gather(1, later).clamp(min=0)
        read = encoded.look(self.queries.expand(size, -1, -1)).transpose(1, 2).flatten(2)
        now, before = (read.gather(1, at.unsqueeze(-1).expand(-1, -1, read.shape[-1])) for at in (later, earlier))
        pairs = self.pair(torch.cat([now, now - before], dim=-1)).float()
        sentences = self.sentence(encoded.texts["statements"]).float()
        return Pairs(functional.normalize(sentences, dim=-1), functional.normalize(pairs, dim=-1))

    def loss(self, said: Pairs, batch: TimelineBatch) -> Tensor:
        """Cross-entropy over the pairs of the batch."""
        logits = self._logits(said, batch)
        own = torch.arange(len(logits), device=logits.device)
        return functional.cross_entropy(logits, own, reduction="sum")

    def hits(self, said: Pairs, batch: TimelineBatch) -> Tensor:
        """How often the right pair has the highest score."""
        logits = self._logits(said, batch)
        return (logits.diagonal() >= logits.amax(dim=-1)).sum() if len(logits) else valid_items(batch, self.items).sum()

    def _logits(self, said: Pairs, batch: TimelineBatch) -> Tensor:
        """Score of the pair of each statement for each statement ``(N, N)``; −inf for what is no option."""
        valid = valid_items(batch, self.items)
        logits = self.temperature(said.sentences[valid]) @ said.pairs[valid].T
        words = torch.unique(batch.statements[valid], dim=0, return_inverse=True)[1]
        place = torch.stack([valid.nonzero()[:, 0], batch.statement_position[valid]], dim=-1)
        same_pair = (place.unsqueeze(1) == place).all(dim=-1)
        # True of another pair is a sentence if it is true of a statement with the same pair.
        also_true = ((words.unsqueeze(1) == words).float() @ same_pair.float()) > 0
        return logits.masked_fill((same_pair | also_true).fill_diagonal_(False), -torch.inf)

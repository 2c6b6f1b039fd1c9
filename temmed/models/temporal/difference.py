"""Current minus prior, the idea behind BioViL-T (Bannur et al. 2023).

BioViL-T mixes the patches of two images in a transformer and subtracts inside it; here the tokens of the latest image
before are subtracted place by place, and a small network reads the difference beside the current token. The prior is
the latest earlier image, whatever the question names.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from temmed.models.temporal.base import Chunk, State, TemporalHead, TemporalMemory
from temmed.models.temporal.images import rows


class Difference(TemporalHead):
    """Current and previous image compared at each place.

    Args:
        dim: size of the tokens.
    """

    bounded = True
    addressable = False

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.no_prior = nn.Parameter(torch.zeros(dim))
        self.compare = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        tokens, there = chunk.tokens, chunk.image_mask
        if state is None:
            state = {"latest": torch.zeros_like(tokens[:, 0]), "seen": torch.zeros_like(there[:, 0])}
        # Of all images so far, first the latest one of the chunk before: which is the latest after each position.
        images = torch.cat([state["latest"].unsqueeze(1), tokens], dim=1)
        numbers = torch.arange(1, images.shape[1], device=tokens.device)
        latest = torch.where(there, numbers, 0).cummax(dim=1).values
        before = functional.pad(latest, (1, -1))
        seen = (before > 0) | state["seen"].unsqueeze(1)
        change = torch.where(seen[..., None, None], tokens - rows(images, before), self.no_prior)
        compared = self.compare(torch.cat([tokens, change], dim=-1))
        after = {"latest": rows(images, latest[:, -1:]).squeeze(1), "seen": state["seen"] | there.any(dim=1)}
        return chunk.slot_now(compared), after

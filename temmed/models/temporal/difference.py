"""Current minus prior, the idea behind BioViL-T (Bannur et al. 2023).

BioViL-T mixes the patches of two images in a transformer and subtracts inside it; here the tokens of the latest image
before are subtracted place by place, and a small network reads the difference beside the current token. The prior is
the latest earlier image, whatever the question names.
"""

from __future__ import annotations

import torch
from torch import nn

from temmed.models.temporal.base import Chunk, State, TemporalHead, TemporalMemory


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
        if state is None:
            latest = chunk.tokens.new_zeros(chunk.tokens[:, 0].shape)
            seen = chunk.image_mask.new_zeros(len(chunk.tokens))
        else:
            latest, seen = state["latest"], state["seen"]
        compared = []
        for current, there in zip(chunk.tokens.unbind(1), chunk.image_mask.unbind(1), strict=True):
            change = torch.where(seen[:, None, None], current - latest, self.no_prior)
            compared.append(self.compare(torch.cat([current, change], dim=-1)))
            latest = torch.where(there[:, None, None], current, latest)
            seen = seen | there
        return chunk.slot_now(torch.stack(compared, dim=1)), {"latest": latest, "seen": seen}

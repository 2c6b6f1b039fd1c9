"""Current minus prior, the idea behind BioViL-T (Bannur et al. 2023).

BioViL-T mixes the patches of two images in a transformer and subtracts inside it; here the tokens of the latest image
before are subtracted place by place, and a small network reads the difference beside the current token. The prior is
the latest earlier image, whatever the question names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from temmed.models.temporal.base import (
    State,
    TemporalHead,
    TemporalMemory,
    as_called,
    chunk_positions,
    next_position,
    per_position,
)


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

    def forward(
        self,
        tokens: Tensor,
        times: Tensor,
        mask: Tensor,
        image_mask: Tensor,
        state: State | None = None,
        positions: Tensor | None = None,
    ) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.forward`."""
        spots = chunk_positions(tokens, state)
        if state is None:
            latest = tokens.new_zeros(tokens[:, 0].shape)
            seen = image_mask.new_zeros(len(tokens))
        else:
            latest, seen = state["latest"], state["seen"]
        compared = []
        for t in range(tokens.shape[1]):
            current = tokens[:, t]
            change = torch.where(seen[:, None, None], current - latest, self.no_prior)
            compared.append(self.compare(torch.cat([current, change], dim=-1)))
            there = image_mask[:, t]
            latest = torch.where(there[:, None, None], current, latest)
            seen = seen | there
        begin = spots.expand_as(times)
        memory = per_position(torch.stack(compared, dim=1), times, as_called(positions, spots, times), begin, begin + 1)
        return memory, {"latest": latest, "seen": seen, "next_position": next_position(spots)}

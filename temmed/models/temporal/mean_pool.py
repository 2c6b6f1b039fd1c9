"""The running mean of all images so far: a memory of the past without order or time."""

from __future__ import annotations

from torch import Tensor

from temmed.models.temporal.base import (
    State,
    TemporalHead,
    TemporalMemory,
    as_called,
    chunk_positions,
    next_position,
    per_position,
)


class MeanPool(TemporalHead):
    """Mean over time at each place of the image grid.

    Args:
        dim: size of the tokens.
    """

    bounded = True
    addressable = False

    def __init__(self, dim: int) -> None:
        super().__init__()

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
        there = image_mask[:, :, None, None].to(tokens.dtype)
        total = (tokens * there).cumsum(dim=1)
        count = there.cumsum(dim=1)
        if state is not None:
            total, count = total + state["total"].unsqueeze(1), count + state["count"].unsqueeze(1)
        mean = total / count.clamp(min=1)
        begin = spots.expand_as(times)
        memory = per_position(mean, times, as_called(positions, spots, times), begin, begin + 1)
        return memory, {
            "total": total[:, -1],
            "count": count[:, -1],
            "next_position": next_position(spots),
        }

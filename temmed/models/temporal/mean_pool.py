"""The running mean of all images so far: a memory of the past without order or time."""

from __future__ import annotations

from temmed.models.temporal.base import Chunk, State, TemporalHead, TemporalMemory


class MeanPool(TemporalHead):
    """Mean over time at each place of the image grid.

    Args:
        dim: size of the tokens.
    """

    bounded = True
    addressable = False

    def __init__(self, dim: int) -> None:
        super().__init__()

    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        there = chunk.image_mask[:, :, None, None].to(chunk.tokens.dtype)
        total = (chunk.tokens * there).cumsum(dim=1)
        count = there.cumsum(dim=1)
        if state is not None:
            total, count = total + state["total"].unsqueeze(1), count + state["count"].unsqueeze(1)
        return chunk.slot_now(total / count.clamp(min=1)), {"total": total[:, -1], "count": count[:, -1]}

"""No memory at all: the static model, which answers from the asked image alone."""

from __future__ import annotations

from torch import Tensor

from temmed.models.temporal.base import State, TemporalHead, TemporalMemory, chunk_positions, next_position


class NoMemory(TemporalHead):
    """An empty memory.

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
        nothing = times[:, :0, None]
        memory = TemporalMemory(tokens[:, :0], nothing, nothing, nothing.long(), nothing.long())
        return memory, {"next_position": next_position(spots)}

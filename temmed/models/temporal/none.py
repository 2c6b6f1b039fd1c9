"""No memory at all: the static model, which answers from the asked image alone."""

from __future__ import annotations

from temmed.models.temporal.base import Chunk, State, TemporalHead, TemporalMemory


class NoMemory(TemporalHead):
    """An empty memory.

    Args:
        dim: size of the tokens.
    """

    bounded = True
    addressable = False

    def __init__(self, dim: int) -> None:
        super().__init__()

    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        nothing = chunk.times[:, :0, None]
        return TemporalMemory(chunk.tokens[:, :0], nothing, nothing, nothing.long(), nothing.long()), {}

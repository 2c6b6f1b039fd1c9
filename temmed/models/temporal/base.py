"""The contract of every temporal head: causal, blind to padding, the same numbers streamed or whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

#: "Never": later than any position.
FOREVER = 2**31 - 1

#: What a head carries from one chunk of a sequence to the next.
State = dict[str, Tensor]


@dataclass
class TemporalMemory:
    """What may be read at each position of a sequence: S slots at each of the K places of the image grid.

    A slot is a vector with the moment it stands for and the span of positions at which it may be read; a question
    asked at position p sees the slots with ``valid_from <= p < valid_to`` and no other. So one memory serves the
    questions of all positions, and the past never sees the future. Moments and spans have one column where they are
    the same at all places.

    Attributes:
        values: ``(B, S, K, D)``.
        times: ``(B, S, K or 1)`` canonical time of the content.
        positions: ``(B, S, K or 1)`` float position of the content; a mean where positions were merged.
        valid_from: ``(B, S, K or 1)`` long, `FOREVER` for a slot that is never read.
        valid_to: ``(B, S, K or 1)`` long, exclusive.
    """

    values: Tensor
    times: Tensor
    positions: Tensor
    valid_from: Tensor
    valid_to: Tensor

    def readable(self, asked_at: Tensor) -> Tensor:
        """``(B, Q) → (B, Q, S, K or 1)`` bool: which slots a question may read."""
        asked = asked_at[..., None, None]
        return (self.valid_from.unsqueeze(1) <= asked) & (asked < self.valid_to.unsqueeze(1))

    @staticmethod
    def join(parts: list[TemporalMemory]) -> TemporalMemory:
        """All slots of several memories of the same sequences."""
        names = ("values", "times", "positions", "valid_from", "valid_to")
        return TemporalMemory(*(torch.cat([getattr(part, name) for part in parts], dim=1) for name in names))


@dataclass(frozen=True)
class Chunk:
    """The positions of B sequences that a head reads at once: all of them, or the next ones.

    Attributes:
        tokens: ``(B, T, K, D)``; a missing image holds the learned "missing" embedding.
        times: ``(B, T)`` canonical time.
        mask: ``(B, T)`` bool, the position exists.
        image_mask: ``(B, T)`` bool, it has an image.
        numbers: ``(T,)`` long, the positions counted from the start of the sequences, in which spans of validity are.
        called: ``(B, T)`` what the positions are called, which differs where some were left out.
    """

    tokens: Tensor
    times: Tensor
    mask: Tensor
    image_mask: Tensor
    numbers: Tensor
    called: Tensor

    def slot_per_position(self, values: Tensor, valid_from: Tensor, valid_to: Tensor) -> TemporalMemory:
        """A memory with one slot per position at each place.

        Args:
            values: ``(B, T, K, D)``.
            valid_from: ``(B, T)``.
            valid_to: ``(B, T)``.
        """
        moments = (self.times, self.called.to(self.times.dtype), valid_from, valid_to)
        return TemporalMemory(values, *(x.unsqueeze(2) for x in moments))

    def slot_now(self, values: Tensor) -> TemporalMemory:
        """A memory with one slot ``(B, T, K, D)`` per position, readable at that position alone."""
        begin = self.numbers.expand_as(self.times)
        return self.slot_per_position(values, begin, begin + 1)


class TemporalHead(nn.Module, ABC):
    """Turns the image tokens of a sequence into a memory that questions can read.

    Subclasses take ``dim`` as their first argument and implement `read`; their file names the source of the idea.
    """

    #: Whether the state keeps its size however long the sequence.
    bounded: ClassVar[bool]
    #: Whether slots stand for single positions, so that reading them can point at evidence.
    addressable: ClassVar[bool]

    @abstractmethod
    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """Read a whole sequence or its next chunk.

        Args:
            chunk: the positions to read.
            state: what this returned for the chunk before; ``None`` at the start.

        Returns:
            The memory, readable at every position of this chunk, and the state after it.
        """

    def forward(
        self,
        tokens: Tensor,
        times: Tensor,
        mask: Tensor,
        image_mask: Tensor,
        state: State | None = None,
        positions: Tensor | None = None,
    ) -> tuple[TemporalMemory, State]:
        """Read a whole sequence or its next chunk; for the shapes see `Chunk`.

        Args:
            tokens: of the images.
            times: of the positions.
            mask: which exist.
            image_mask: which have an image.
            state: from the previous chunk; ``None`` at the start.
            positions: ``(B, T)`` what the positions are called; counted on by default.

        Returns:
            See `read`; the state also has ``next_position``.
        """
        start = 0 if state is None else int(state["next_position"])
        numbers = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        called = numbers.expand_as(times) if positions is None else positions
        memory, after = self.read(Chunk(tokens, times, mask, image_mask, numbers, called), state)
        return memory, after | {"next_position": numbers[-1] + 1}

    def step(
        self, tokens: Tensor, time: Tensor, state: State | None = None, position: Tensor | None = None
    ) -> tuple[TemporalMemory, State]:
        """Read one position that has an image: tokens ``(B, K, D)``, time and position ``(B,)``."""
        there = torch.ones(len(tokens), 1, dtype=torch.bool, device=tokens.device)
        positions = None if position is None else position.unsqueeze(1)
        return self(tokens.unsqueeze(1), time.unsqueeze(1), there, there, state, positions)

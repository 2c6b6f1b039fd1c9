"""The contract of every reader: a question reads the asked image, then the memory of the positions up to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from temmed.models.temporal.base import TemporalMemory

#: Read heads, or groups of them, that point at the earliest and at the latest evidence.
POINTERS = 2


@dataclass
class Reading:
    """What a question found.

    Attributes:
        features: ``(B, Q, D)``.
        pointers: ``(B, Q, 2, T)`` probability of each position to be the earliest and the latest evidence; ``None``
            where the memory has no addresses.
        maps: ``(B, Q, K)`` how much each place of the asked image counted, ≥ 0 and 1 in sum; ``None`` unless asked for.
        slots: ``(B, Q, T)`` how much of what was remembered is of each position, averaged over all heads: ≥ 0, and 1 in
            sum, or 0 where nothing may be read; ``None`` unless asked for, and where the memory has no addresses.
    """

    features: Tensor
    pointers: Tensor | None
    maps: Tensor | None = None
    slots: Tensor | None = None


class Reader(nn.Module, ABC):
    """How a question reads tokens and memory.

    Subclasses take ``dim`` and ``places`` first, set `size` and implement `forward` and `look`. A third of the read
    heads is the pointer at the earliest evidence, a third the one at the latest; the rest is free.

    Args:
        dim: size of tokens and questions.
        places: K, tokens per image.
        heads: number of read heads, at least 3.
    """

    #: Size of what `look` returns.
    size: int

    def __init__(self, dim: int, places: int, heads: int) -> None:
        super().__init__()
        if heads < POINTERS + 1:
            raise ValueError(f"Expected reader.heads >= {POINTERS + 1}, got {heads}")
        self.heads = heads
        #: How many heads point.
        self.pointing = heads // (POINTERS + 1) * POINTERS
        self.norm = nn.LayerNorm(dim)

    @abstractmethod
    def forward(
        self,
        prompts: Tensor,
        images: Tensor,
        asked_at: Tensor,
        memory: TemporalMemory,
        reports: TemporalMemory | None = None,
        named: Tensor | None = None,
        addressable: bool = True,
        positions: Tensor | None = None,
        explain: bool = False,
        start: int = 0,
    ) -> Reading:
        """Answer features of every question.

        Args:
            prompts: ``(B, Q, D)``.
            images: tokens after `norm`, ``(B, T, K, D)``.
            asked_at: ``(B, Q)`` long, counted from the start of the sequences.
            memory: of the same sequences, K places.
            reports: what was written, as a memory of one place; read in the same way, wherever the question looks.
            named: the moments that each question names, ``(B, Q, NAMED, MOMENT_SIZE)``.
            addressable: whether slots of the memory stand for positions, to build the pointers.
            positions: what all positions of the sequences are called where some were left out, ``(B, T)``; counted by
                default.
            explain: whether to return maps and slots, too.
            start: where the images begin, if they are a chunk of longer sequences.
        """

    @abstractmethod
    def look(self, prompts: Tensor, images: Tensor) -> Tensor:
        """Read every image by itself, without memory.

        Args:
            prompts: ``(B, Q, D)``.
            images: tokens after `norm`, ``(B, T, K, D)``.

        Returns:
            ``(B, Q, T, size)``.
        """

    def split(self, x: Tensor) -> Tensor:
        """``(..., heads · size) → (..., heads, size)``."""
        return x.unflatten(-1, (self.heads, -1))

    def tell(
        self,
        features: Tensor,
        where: Tensor,
        attention: Tensor,
        memory: TemporalMemory,
        positions: Tensor,
        addressable: bool,
        explain: bool,
    ) -> Reading:
        """A reading with what is to be told of it.

        Args:
            features: ``(B, Q, D)``.
            where: how much each head saw of each place of the asked image, ``(B, Q, heads, K)``; sums to 1.
            attention: how much of what a head remembers is of each slot, ``(B, Q, heads, S, K)``; sums to 1, or to 0.
                Without ``explain`` the first heads, which point, are enough.
            memory: whose slots these are.
            positions: what the positions are called, ``(B, T)``.
            addressable: see `forward`.
            explain: see `forward`.
        """
        reading = Reading(features, None, maps=where.mean(dim=2) if explain else None)
        if addressable:
            if memory.positions.shape[-1] == 1:
                attention = attention.sum(dim=-1, keepdim=True)
            pointing = attention[:, :, : self.pointing].unflatten(2, (POINTERS, -1)).mean(dim=3)
            reading.pointers = _at_positions(pointing, memory, positions)
            if explain:
                reading.slots = _at_positions(attention.mean(dim=2, keepdim=True), memory, positions).squeeze(2)
        return reading


def names_of(positions: Tensor | None, images: Tensor) -> Tensor:
    """What the positions of images ``(B, T, K, D)`` are called, ``(B, T)``; counted if it is not said."""
    if positions is not None:
        return positions
    return torch.arange(images.shape[1], device=images.device).expand(len(images), -1)


def _at_positions(mass: Tensor, memory: TemporalMemory, positions: Tensor) -> Tensor:
    """Attention by position instead of by slot.

    Args:
        mass: ``(B, Q, N, S, K or 1)``; with one column where slots stand for the same moment at all places.
        memory: whose slots these are; what one stands for is taken for the nearest of the positions.
        positions: ``(B, T)`` what they are called.

    Returns:
        ``(B, Q, N, T)``.
    """
    between = (positions[:, 1:] + positions[:, :-1]) / 2
    nearest = torch.searchsorted(between, memory.positions.round().flatten(1).to(between.dtype))
    where = nearest.unflatten(1, memory.positions.shape[1:])[:, None, None].expand_as(mass).flatten(-2)
    return mass.new_zeros(*mass.shape[:3], positions.shape[1]).scatter_add(3, where, mass.flatten(-2))

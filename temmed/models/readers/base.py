"""The contract of every reader: a question reads the asked image, then the memory of the positions up to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from temmed.models.temporal.base import TemporalMemory

#: Read heads, or groups of them, that point at the earliest and at the latest evidence.
POINTERS = 2


@dataclass(frozen=True)
class Asked:
    """Questions about positions of B sequences.

    Attributes:
        prompts: ``(B, Q, D)``.
        asked_at: ``(B, Q)`` long, positions counted from the start of the sequences.
        called: ``(B, Q)`` what these positions are called, which differs where some were left out.
        reports: what was written, as a memory of one place; read in the same way, wherever the question looks; ``None``
            if none is read.
        named: the moments that the prompts name, ``(B, Q, NAMED, MOMENT_SIZE)``.
        pointing: whether pointers are wanted, for which slots of the memory must stand for positions.
    """

    prompts: Tensor
    asked_at: Tensor
    called: Tensor
    reports: TemporalMemory | None = None
    named: Tensor | None = None
    pointing: bool = False


@dataclass(frozen=True)
class Shown:
    """What there is to read of B sequences, or of a chunk of them.

    Attributes:
        images: tokens after the reader's norm, ``(B, T, K, D)``.
        memory: of the same positions, K places.
        positions: ``(B, N)`` what all positions of the sequences are called, of this chunk or not.
        start: the number of the first image.
    """

    images: Tensor
    memory: TemporalMemory
    positions: Tensor
    start: int = 0

    def images_of(self, asked: Asked) -> Tensor:
        """The image at which each question is asked, ``(B, Q, K, D)``."""
        here = (asked.asked_at - self.start)[:, :, None, None]
        return self.images.gather(1, here.expand(-1, -1, *self.images.shape[2:]))


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

    Subclasses take ``dim`` and ``places`` first, set `size` and implement `find` and `look`. A third of the read
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

    def forward(self, asked: Asked, shown: Shown, explain: bool = False) -> Reading:
        """Answer features of every question.

        Args:
            asked: what is asked.
            shown: what there is to read.
            explain: whether to return maps and slots, too.
        """
        features, where, attention = self.find(asked, shown)
        reading = Reading(features, None, maps=where.mean(dim=2) if explain else None)
        if asked.pointing:
            told = slice(self.heads if explain else self.pointing)
            mass = self.remembered(attention[:, :, told], where[:, :, told])
            if shown.memory.positions.shape[-1] == 1:
                mass = mass.sum(dim=-1, keepdim=True)
            pointing = mass[:, :, : self.pointing].unflatten(2, (POINTERS, -1)).mean(dim=3)
            reading.pointers = _at_positions(pointing, shown)
            if explain:
                reading.slots = _at_positions(mass.mean(dim=2, keepdim=True), shown).squeeze(2)
        return reading

    @abstractmethod
    def find(self, asked: Asked, shown: Shown) -> tuple[Tensor, Tensor, Tensor]:
        """Read for every question.

        Returns:
            Answer features ``(B, Q, D)``; how much each head saw of each place of the asked image,
            ``(B, Q, heads, K)``, 1 in sum; and its attention over the memory, ``(B, Q, heads, S, K)``.
        """

    def remembered(self, attention: Tensor, where: Tensor) -> Tensor:
        """How much of all that a head remembers is of each slot and place, 1 in sum, or 0.

        Args:
            attention: over the memory, from `find`, ``(B, Q, H, S, K)``.
            where: over the asked image, from `find`, ``(B, Q, H, K)``.
        """
        return attention

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


def _at_positions(mass: Tensor, shown: Shown) -> Tensor:
    """Attention by position instead of by slot; what a slot stands for is taken for the nearest of the positions.

    Args:
        mass: ``(B, Q, N, S, K or 1)``; with one column where slots stand for the same moment at all places.
        shown: whose slots these are.

    Returns:
        ``(B, Q, N, T)``.
    """
    positions, moments = shown.positions, shown.memory.positions
    between = (positions[:, 1:] + positions[:, :-1]) / 2
    nearest = torch.searchsorted(between, moments.round().flatten(1).to(between.dtype))
    where = nearest.unflatten(1, moments.shape[1:])[:, None, None].expand_as(mass).flatten(-2)
    return mass.new_zeros(*mass.shape[:3], positions.shape[1]).scatter_add(3, where, mass.flatten(-2))

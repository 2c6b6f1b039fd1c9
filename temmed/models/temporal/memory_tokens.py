"""Segments joined by memory tokens: Recurrent Memory Transformer (Bulatov et al. 2022).

A sequence is read in segments. Inside one, attention is causal; every position also reads a few memory tokens that
come from the segment before, and at its end the memory tokens read the segment and are handed on. Gradients pass
through all of them.

What differs: memory tokens are read by each layer as they are, and not carried through the layers as further tokens
of the segment; while they are written they do not read each other; they are normalised before they are handed on, so
that they stay of one size over thousands of segments. As in `transformer`, every place of the image grid has a memory
of its own, and elapsed time enters as a continuous encoding.

Segments count positions, not images: then they end at once in all sequences of a batch, and a visit without an image,
which has an embedding of its own, can be read as one that was missed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.models.encodings import ElapsedTime
from temmed.models.temporal.attention import Layers, Trail, latest
from temmed.models.temporal.base import FOREVER, Chunk, State, TemporalHead, TemporalMemory


class _Segment(NamedTuple):
    """The segment that is being read.

    ``memory`` is ``(B, M, K, D)``; ``moment`` and ``last`` are ``(B, 2)``: time and name of the last position when the
    memory was written, and now; ``there`` is ``(B, n)``, which positions exist; ``pasts`` has ``(B, M + n, K, 2 D)``
    for each layer, keys and values of the memory and of the segment so far.
    """

    memory: Tensor
    moment: Tensor
    last: Tensor
    there: Tensor
    pasts: list[Tensor]


class MemoryTokens(TemporalHead):
    """Segment-recurrent attention with memory tokens; a question reads the segment so far and the memory before it.

    Args:
        dim: size of the tokens.
        layers: number of layers.
        heads: attention heads.
        segment: positions read between two writings of the memory.
        memory: number of memory tokens per place of the image grid.
        dropout: in the feed-forward part.
    """

    bounded = True
    addressable = False

    def __init__(
        self, dim: int, layers: int = 1, heads: int = 4, segment: int = 64, memory: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        for name, value in (("segment", segment), ("memory", memory)):
            if value < 1:
                raise ValueError(f"Expected {name} >= 1, got {value}")
        self.segment = segment
        self.time = ElapsedTime(dim)
        self.first = nn.Parameter(torch.randn(memory, dim))
        self.norm = nn.LayerNorm(dim)
        self.layers = Layers(dim, layers, heads, dropout)

    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        begin, length = int(chunk.numbers[0]), chunk.mask.shape[1]
        borders = [0, *range(self.segment - begin % self.segment, length, self.segment), length]
        sizes = [after - before for before, after in pairwise(borders)]
        moments = torch.stack([chunk.times, chunk.called.to(chunk.times.dtype)], dim=-1)
        parts = (x.split(sizes, dim=1) for x in (chunk.tokens + self.time(chunk.times), chunk.mask, moments))
        segment = self._resume(chunk.tokens, begin, state)
        values: list[Tensor] = []
        memories: list[TemporalMemory] = []
        for border, x, there, moment in zip(borders, *parts, strict=False):
            number = begin + border
            if number > 0 and number % self.segment == 0:
                segment = self._written(segment)
            read, segment = self._read_on(x, there, moment, segment)
            values.append(read)
            memories.append(self._slots(segment, number))
        trail = Trail.of(chunk, torch.cat(values, dim=1), state)
        memory = TemporalMemory.join([*memories, trail.memory((trail.since // self.segment + 1) * self.segment)])
        keys = {f"past_{n}": self._own(past) for n, past in enumerate(segment.pasts)}
        told = {"memory": segment.memory, "moment": segment.moment, "last": segment.last}
        return memory, told | keys | trail.latest(self.segment)._asdict()

    def _own(self, past: Tensor) -> Tensor:
        """Keys and values of the segment's positions, without those of the memory, in a tensor of one size."""
        return latest(past[:, len(self.first) :], self.segment)

    def _resume(self, tokens: Tensor, begin: int, state: State | None) -> _Segment:
        """The segment of the last position before this chunk; it may be at its end."""
        if state is None:
            size, _, places, dim = tokens.shape
            memory = self.norm(self.first)[:, None].expand(size, -1, places, dim)
            nothing = tokens.new_zeros(size, 2, dtype=torch.float32)
            nowhere = torch.ones(size, 0, dtype=torch.bool, device=tokens.device)
            return _Segment(memory, nothing, nothing, nowhere, self._remembered(memory))
        read = (begin - 1) % self.segment + 1
        own = [latest(state[f"past_{n}"], read) for n in range(len(self.layers))]
        pasts = [torch.cat(pair, dim=1) for pair in zip(self._remembered(state["memory"]), own, strict=True)]
        there = latest(state["since"], read) < FOREVER
        return _Segment(state["memory"], state["moment"], state["last"], there, pasts)

    def _remembered(self, memory: Tensor) -> list[Tensor]:
        """Keys and values of the memory, for each layer."""
        return [layer.key_value(layer.norm(memory)) for layer in self.layers]

    def _read_on(self, x: Tensor, there: Tensor, moments: Tensor, segment: _Segment) -> tuple[Tensor, _Segment]:
        """The next positions of a segment: what the last layer makes of them, and the segment with them."""
        there = torch.cat([segment.there, there], dim=1)
        mask = self._readable(there, x.shape[1])
        pasts = []
        for layer, past in zip(self.layers, segment.pasts, strict=True):
            normed = layer.norm(x)
            past = torch.cat([past, layer.key_value(normed)], dim=1)
            x = layer.finish(x, layer.attend(layer.query(normed), past, mask))
            pasts.append(past)
        now = there[:, -x.shape[1] :, None]
        last = torch.where(now, moments, segment.last.unsqueeze(1)).amax(dim=1)
        return x, segment._replace(last=last, there=there, pasts=pasts)

    def _readable(self, there: Tensor, length: int) -> Tensor:
        """What the last positions of a segment ``(B, n)`` read: the memory, and up to themselves what exists."""
        before = len(self.first) + there.shape[1] - length
        causal = torch.ones(length, before + length, dtype=torch.bool, device=there.device).tril(before)
        return causal if bool(there.all()) else causal & self._exist(there)

    def _exist(self, there: Tensor) -> Tensor:
        """Mask of the memory and those positions of a segment that exist, ``(B, 1, 1, M + n)``."""
        return functional.pad(there, (len(self.first), 0), value=True)[:, None, None]

    def _written(self, segment: _Segment) -> _Segment:
        """The next segment, with a memory that has read this one."""
        memory = segment.memory
        mask = None if bool(segment.there.all()) else self._exist(segment.there)
        for layer, past in zip(self.layers, segment.pasts, strict=True):
            memory = layer.finish(memory, layer.attend(layer.query(layer.norm(memory)), past, mask))
        memory = self.norm(memory)
        return _Segment(memory, segment.last, segment.last, segment.there[:, :0], self._remembered(memory))

    def _slots(self, segment: _Segment, number: int) -> TemporalMemory:
        """The memory as it may be read in the segment that has the position of this number."""
        size, count = segment.memory.shape[:2]
        time, called = segment.moment[:, None, None].expand(-1, count, -1, -1).unbind(-1)
        begin = number - number % self.segment
        since = torch.full((size, count, 1), begin, device=segment.memory.device)
        return TemporalMemory(segment.memory, time, called, since, since + self.segment)

"""A bank of fixed size with gated writing, merging of similar neighbours, and fusion with the current image.

The compression is that of MA-LMM (He et al. 2024): when the bank is full, the two neighbours in time that are most
alike are averaged, place by place. What differs: slots carry the time and position they stand for (averaged with
them), so a question can address them; what is written passes a gate; and the current tokens are first fused with what
the bank holds of the same place, so that a slot can say what is new.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.models import start
from temmed.models.encodings import ElapsedTime
from temmed.models.temporal.base import FOREVER, Chunk, State, TemporalHead, TemporalMemory


class _Bank(NamedTuple):
    """M slots at each of K places; until something is merged, all places say the same of their slots, in one column.

    ``values`` is ``(B, M, K, D)``, all others ``(B, M, K or 1)``: mean time and position of what a slot stands for,
    the number of images in it, and the position since which it is as it is.
    """

    values: Tensor
    time: Tensor
    position: Tensor
    number: Tensor
    born: Tensor

    def at(self, index: Tensor) -> _Bank:
        """The slots ``(B, N, K)`` of each place."""
        values, *told = self
        wide = index.unsqueeze(-1).expand(*index.shape, values.shape[-1])
        return _Bank(values.gather(1, wide), *(x.expand(values.shape[:3]).gather(1, index) for x in told))

    def where(self, mask: Tensor, other: _Bank) -> _Bank:
        """This bank where the mask ``(B, M, K)`` is true, else the other; what has size 1 fits any."""
        values = torch.where(mask.unsqueeze(-1), self.values, other.values)
        return _Bank(values, *(torch.where(mask, x, y) for x, y in zip(self[1:], other[1:], strict=True)))

    def first(self, slots: int) -> _Bank:
        """The first slots; empty ones if there are not so many."""
        return _Bank(*(self._resize(x, slots) for x in self))

    @staticmethod
    def _resize(x: Tensor, slots: int) -> Tensor:
        missing = slots - x.shape[1]
        return x[:, :slots] if missing <= 0 else functional.pad(x, (0, 0) * (x.ndim - 2) + (0, missing))

    def as_memory(self, valid_from: Tensor, valid_to: int) -> TemporalMemory:
        """What may be read of it, and when."""
        return TemporalMemory(self.values, self.time, self.position, valid_from, torch.full_like(valid_from, valid_to))


class _Current(NamedTuple):
    """Tokens ``(B, K, D)`` and the parts of what follows that depend on them alone, so that no loop computes them."""

    tokens: Tensor
    query: Tensor
    empty_score: Tensor
    ahead: Tensor


class MemoryFusion(TemporalHead):
    """Memory-augmented fusion with a bank of ``capacity`` moments per place of the image grid.

    Args:
        dim: size of the tokens.
        capacity: moments kept; longer sequences are compressed.
    """

    bounded = True
    addressable = True

    def __init__(self, dim: int, capacity: int = 8) -> None:
        super().__init__()
        if capacity < 1:
            raise ValueError(f"Expected capacity >= 1, got {capacity}")
        self.capacity = capacity
        self.time = ElapsedTime(dim)
        # The slots are their own keys: a layer for those as well could say nothing that this one cannot.
        self.query = nn.Linear(dim, dim)
        self.empty = nn.Parameter(torch.zeros(dim))
        # The first layers of the gate of fusion (dim), of the fusion (2 dim) and of the gate of writing (dim).
        self.from_current = nn.Linear(dim, 3 * dim)
        self.from_read = nn.Linear(dim, 4 * dim, bias=False)
        self.from_fused = nn.Linear(dim, dim)
        self.fuse = nn.Linear(2 * dim, dim)
        # At the start what is seen is stored as it is: open gates, and nothing fused into it.
        nn.init.constant_(self.from_fused.bias, 2.0)
        start.at_zero(self.fuse)

    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        tokens, times, image_mask = chunk.tokens, chunk.times, chunk.image_mask
        bank, filled = self._resume(tokens, state)
        tokens = tokens + self.time(times)
        query = self.query(tokens) * tokens.shape[-1] ** -0.5
        ahead = (tokens, query, query @ self.empty, self.from_current(tokens))
        currents = [_Current(*parts) for parts in zip(*(x.unbind(1) for x in ahead), strict=True)]
        after = (filled.unsqueeze(1) + image_mask.cumsum(dim=1)).clamp(max=self.capacity)
        before = torch.cat([filled.unsqueeze(1), after[:, :-1]], dim=1)
        full = before + image_mask > self.capacity
        used, overflows = after.amax(dim=0).tolist(), full.any(dim=0).tolist()
        gone: list[TemporalMemory] = []
        for t, spot in enumerate(chunk.numbers.tolist()):
            written = self._fuse(currents[t], bank, before[:, t])
            bank = _write(bank, written, times[:, t], chunk.called[:, t], spot, before[:, t], image_mask[:, t])
            if overflows[t]:
                bank, lost = _merge(bank, spot, full[:, t])
                gone.append(lost)
            bank = bank.first(used[t])
        there = torch.arange(used[-1], device=tokens.device) < after[:, -1:]
        live = bank.as_memory(torch.where(there.unsqueeze(2), bank.born, FOREVER), FOREVER)
        places = tokens.shape[2]
        kept = bank.first(self.capacity)._asdict()
        return TemporalMemory.join([*gone, live]), {
            **{name: x.expand(*x.shape[:2], places, *x.shape[3:]) for name, x in kept.items()},
            "filled": after[:, -1],
        }

    @staticmethod
    def _resume(tokens: Tensor, state: State | None) -> tuple[_Bank, Tensor]:
        """The bank, and how many slots of each sequence ``(B,)`` are filled."""
        if state is None:
            size, _, places, dim = tokens.shape
            nothing = tokens.new_zeros(size, 0, 1, dtype=torch.float32)
            never = torch.zeros(size, 0, 1, dtype=torch.long, device=tokens.device)
            filled = torch.zeros(size, dtype=torch.long, device=tokens.device)
            return _Bank(tokens.new_zeros(size, 0, places, dim), nothing, nothing, nothing, never), filled
        filled = state["filled"]
        values, *told = (state[name][:, : int(filled.max())] for name in _Bank._fields)
        merged = bool((state["number"] > 1).any())
        return _Bank(values, *(x if merged else x[..., :1] for x in told)), filled

    def _fuse(self, current: _Current, bank: _Bank, filled: Tensor) -> Tensor:
        """What is written of the current tokens, ``(B, K, D)``: fused with what the bank holds of the same place.

        It is found by content; a learned empty slot can be read, too.
        """
        there = torch.arange(bank.values.shape[1], device=filled.device) < filled.unsqueeze(1)
        scores = (current.query.unsqueeze(1) * bank.values).sum(dim=-1).masked_fill(~there.unsqueeze(2), -torch.inf)
        weight = torch.cat([current.empty_score.unsqueeze(1), scores], dim=1).softmax(dim=1).unsqueeze(-1)
        read = weight[:, 0] * self.empty + (weight[:, 1:] * bank.values).sum(dim=1)
        dim = read.shape[-1]
        fuse_gate, fuse_hidden, write_gate = self.from_read(read).split((dim, 2 * dim, dim), dim=-1)
        ahead_gate, ahead_hidden = current.ahead.split((dim, 2 * dim), dim=-1)
        fused = self.fuse(functional.gelu(ahead_hidden + fuse_hidden))
        fused = current.tokens + torch.sigmoid(ahead_gate + fuse_gate) * fused
        return torch.sigmoid(self.from_fused(fused) + write_gate) * fused


def _write(
    bank: _Bank, values: Tensor, time: Tensor, position: Tensor, spot: int, filled: Tensor, there: Tensor
) -> _Bank:
    """Put values ``(B, K, D)`` into the first empty slot of the sequences that have an image."""
    slots = torch.arange(bank.number.shape[1] + 1, device=values.device)
    here = ((slots == filled.unsqueeze(1)) & there.unsqueeze(1)).unsqueeze(2)
    told = (time, position.to(time.dtype), torch.ones_like(time), torch.full_like(filled, spot))
    return _Bank(values.unsqueeze(1), *(x[:, None, None] for x in told)).where(here, bank.first(len(slots)))


def _merge(bank: _Bank, spot: int, full: Tensor) -> tuple[_Bank, TemporalMemory]:
    """Average the two most similar neighbours of each place in the sequences ``(B,)`` whose bank overflows.

    Returns:
        The bank, one slot shorter; and the slots that are no more, readable up to now.
    """
    with torch.no_grad():
        alike = functional.cosine_similarity(bank.values[:, 1:], bank.values[:, :-1], dim=-1)
    first = alike.argmax(dim=1, keepdim=True)
    pair = bank.at(torch.cat([first, first + 1], dim=1))
    full = full[:, None, None]
    lost = pair.as_memory(torch.where(full, pair.born, FOREVER), spot)
    number = pair.number.sum(dim=1, keepdim=True)
    share = pair.number / number.clamp(min=1)
    values, time, at = (
        (x * by).sum(dim=1, keepdim=True)
        for x, by in ((pair.values, share.unsqueeze(-1)), (pair.time, share), (pair.position, share))
    )
    merged = _Bank(values, time, at, number, torch.full_like(first, spot))
    slots = torch.arange(bank.values.shape[1] - 1, device=first.device)[:, None]
    shorter = merged.where(slots == first, bank.at(slots + (slots > first)))
    return shorter.where(full, bank.first(len(slots))), lost

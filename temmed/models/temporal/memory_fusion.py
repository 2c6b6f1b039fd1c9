"""A bank of fixed size with gated writing, merging of similar neighbours, and fusion with the current image.

The compression is that of MA-LMM (He et al. 2024): when the bank is full, the two neighbours in time that are most
alike are averaged, place by place. What differs: slots carry the time and position they stand for (averaged with
them), so a question can address them; the current tokens are first fused with what the bank holds of the same place,
so that a slot can say what is new; and what is written passes a gate.

There are two such banks side by side with the same merges: one of the tokens as they come, which decides what is alike
and is what the current tokens are fused with, and one of what is written, which questions read. As the first depends
on nothing that is read, positions need not wait for each other: they are computed in blocks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.models import start
from temmed.models.encodings import ElapsedTime
from temmed.models.temporal.base import FOREVER, Chunk, State, TemporalHead, TemporalMemory
from temmed.models.temporal.merging import Plan, plan_merges

#: Entries that are computed at once.
_BLOCK = 32


@dataclass(frozen=True)
class _Entries:
    """What is written to the bank: what is in it already, then the images of a chunk; at most L of a sequence.

    Attributes:
        tokens: ``(B, K, L, D)``.
        written: ``(B, K, F, D)``, the fused and gated tokens of those that are in the bank already.
        number: ``(B, K or 1, L)`` images that each stands for.
        time: ``(B, K or 1, L)``, the mean of theirs, in double precision: its encoding is sensitive.
        position: ``(B, K or 1, L)``, likewise.
        since: ``(B, K or 1, L)`` long, the number of the position at which it was written; `FOREVER` if it is none.
        before: ``(B,)`` how many are in the bank already.
        lengths: ``(B,)`` how many there are.
    """

    tokens: Tensor
    written: Tensor
    number: Tensor
    time: Tensor
    position: Tensor
    since: Tensor
    before: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, chunk: Chunk, tokens: Tensor, state: State | None) -> _Entries:
        """Of a chunk with tokens ``(B, K, T, D)``: what the state holds, and the images that exist, in order."""
        size, places, length, dim = tokens.shape
        told = [torch.ones_like(chunk.times), chunk.times.double(), chunk.called.double(), chunk.numbers]
        told = [x.expand(size, length).unsqueeze(1) for x in told]
        there, written = chunk.image_mask, tokens[:, :, :0]
        before = there.new_zeros(size, dtype=torch.long)
        if state is not None:
            before = state["filled"]
            most = int(before.max())
            kept, written = (state[name][:, :, :most] for name in ("tokens", "written"))
            tokens = torch.cat([kept, tokens], dim=2)
            # Until something is merged, all places say the same of their slots, in one column.
            columns = places if bool((state["number"] > 1).any()) else 1
            past = [state[name][:, :columns, :most] for name in _TOLD]
            told = [torch.cat([x, y.expand(-1, columns, -1)], dim=2) for x, y in zip(past, told, strict=True)]
            there = torch.cat([torch.arange(most, device=there.device) < before.unsqueeze(1), there], dim=1)
        lengths = there.sum(dim=1)
        if not there.all():
            order = torch.argsort(~there, dim=1, stable=True)[:, None, : int(lengths.max())]
            told = [x.gather(2, order.expand(-1, x.shape[1], -1)) for x in told]
            tokens = tokens.gather(2, order.unsqueeze(3).expand(-1, places, -1, dim))
            behind = torch.arange(order.shape[2], device=there.device) >= lengths[:, None, None]
            told[-1] = told[-1].masked_fill(behind, FOREVER)
        number, time, position, since = told
        return cls(tokens, written, number, time, position, since, before, lengths)


#: What is told of the slots in the bank, in the state by these names.
_TOLD = ("number", "time", "position", "since")


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
        self.empty = nn.Parameter(torch.zeros(dim))
        # Of the current tokens: the query, for which slots are their own keys, and beside what is read the gate of
        # fusion and what is fused.
        self.from_current = nn.Linear(dim, 3 * dim)
        self.from_read = nn.Linear(dim, 2 * dim, bias=False)
        self.fuse = nn.Linear(dim, dim)
        self.gate = nn.Linear(dim, dim)
        # At the start what is seen is stored as it is: open gates, and nothing fused into it.
        nn.init.constant_(self.gate.bias, 2.0)
        start.at_zero(self.fuse)

    # What is merged decides the shapes of each block, which torch.compile cannot follow.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        tokens = (chunk.tokens + self.time(chunk.times)).transpose(1, 2)
        entries = _Entries.of(chunk, tokens, state)
        length = entries.tokens.shape[2]
        edges = [*range(int(entries.before.min()), length, _BLOCK), length]
        plan = plan_merges(entries.tokens, entries.number, entries.lengths, self.capacity, set(edges))
        # Split once: the gradient of a slice is as large as the whole.
        past, *parts = entries.tokens.split(
            [edges[0], *(end - begin for begin, end in itertools.pairwise(edges))], dim=2
        )
        bank = _Bank(entries, plan, past)
        for (begin, end), current in zip(itertools.pairwise(edges), parts, strict=True):
            block = bank.block(begin, end, self.capacity)
            bank.write(block, self._written(current, bank.readable(block, current, self.empty), block.allowed))
        return bank.memory(chunk.times.dtype), bank.state(self.capacity)

    def _written(self, current: Tensor, readable: Tensor, allowed: Tensor) -> Tensor:
        """What is written of the current tokens: fused with what the bank held of the same place, and gated.

        It is found by content; a learned empty slot can be read, too.

        Args:
            current: ``(B, K, N, D)``.
            readable: ``(B, K, S, D)``.
            allowed: ``(B, K or 1, N, S)`` bool.
        """
        dim = current.shape[-1]
        query, ahead = self.from_current(current).split((dim, 2 * dim), dim=-1)
        read = functional.scaled_dot_product_attention(query, readable, readable, attn_mask=allowed)
        gate, hidden = (ahead + self.from_read(read)).chunk(2, dim=-1)
        fused = current + torch.sigmoid(gate) * self.fuse(functional.gelu(hidden))
        return torch.sigmoid(self.gate(fused)) * fused


@dataclass(frozen=True)
class _Block:
    """Entries that are computed at once, and the slots that are in the bank before, while and after they are written.

    Attributes:
        begin: the first entry.
        end: the one after the last.
        slots: ``(B, K or 1, S)`` long: those in the bank before, the entries, and what is merged meanwhile.
        merged: how many the last are.
        share: ``(B, K or 1, merged, S - merged)``: how much each of the others counts in what is merged.
        allowed: ``(B, K or 1, N, 1 + S)`` bool: what each entry may read, first the empty slot.
    """

    begin: int
    end: int
    slots: Tensor
    merged: int
    share: Tensor
    allowed: Tensor


class _Bank:
    """The values of the slots, block by block.

    Args:
        entries: what is written.
        plan: what is merged.
        tokens: ``(B, K, N, D)`` of the first entries, which are in the bank already.
    """

    def __init__(self, entries: _Entries, plan: Plan, tokens: Tensor) -> None:
        self.entries, self.plan = entries, plan
        self.tokens, self.written = tokens, entries.written[:, :, : tokens.shape[2]]
        self.shown, self.mixed = [self.written], [self.written[:, :, :0]]
        self.total = functional.pad(entries.number.cumsum(dim=2), (1, 0))

    def number(self, slots: Tensor) -> Tensor:
        """Images that slots ``(B, K or 1, S)`` stand for."""
        return _between(self.total, self.plan.start.gather(2, slots), self.plan.stop.gather(2, slots))

    def block(self, begin: int, end: int, capacity: int) -> _Block:
        """The block of these entries."""
        plan, length = self.plan, self.entries.tokens.shape[2]
        before = plan.held[begin]
        fresh = torch.arange(begin, end, device=before.device)
        mixed = torch.arange(max(begin - capacity, 0), max(end - capacity, 0), device=before.device) + length
        slots = torch.cat([before, torch.cat([fresh, mixed]).expand(*before.shape[:2], -1)], dim=2)
        count = slots.shape[2] - len(mixed)
        first, after = plan.start.gather(2, slots).unsqueeze(2), plan.stop.gather(2, slots).unsqueeze(2)
        of = slice(count, None)
        inside = first[..., :count] >= first[..., of].transpose(2, 3)
        inside = inside & (after[..., :count] <= after[..., of].transpose(2, 3))
        share = inside * self.number(slots[..., :count]).unsqueeze(2)
        alive = (plan.born[slots].unsqueeze(2) < fresh[:, None]) & (
            fresh[:, None] <= plan.gone.gather(2, slots).unsqueeze(2)
        )
        return _Block(
            begin,
            end,
            slots,
            len(mixed),
            share / share.sum(dim=3, keepdim=True),
            functional.pad(alive, (1, 0), value=True),
        )

    def _mix(self, block: _Block, values: Tensor) -> Tensor:
        """Values ``(B, K, S, D)`` of all slots of a block, from those that are not merged."""
        with torch.autocast(values.device.type, enabled=False):  # many small shares
            return torch.cat([values, block.share.to(values.dtype) @ values], dim=2)

    def readable(self, block: _Block, current: Tensor, empty: Tensor) -> Tensor:
        """What the entries of a block read, ``(B, K, 1 + S, D)``; it becomes the bank after the block."""
        values = self._mix(block, torch.cat([self.tokens, current], dim=2))
        self.tokens = self._kept(block, values)
        return torch.cat([empty.to(values.dtype).expand(*values.shape[:2], 1, -1), values], dim=2)

    def write(self, block: _Block, written: Tensor) -> None:
        """Put what is written of the entries of a block into the bank."""
        known = self.entries.written[:, :, block.begin : block.end]
        if known.shape[2]:
            inside = torch.arange(block.begin, block.begin + known.shape[2], device=known.device)
            inside = (inside < self.entries.before.unsqueeze(1))[:, None, :, None]
            most = known.shape[2]
            written = torch.cat([torch.where(inside, known, written[:, :, :most]), written[:, :, most:]], dim=2)
        values = self._mix(block, torch.cat([self.written, written], dim=2))
        self.shown.append(written)
        self.mixed.append(values[:, :, values.shape[2] - block.merged :])
        self.written = self._kept(block, values)

    def _kept(self, block: _Block, values: Tensor) -> Tensor:
        """Of the values ``(B, K, S, D)`` of a block's slots those that are in the bank after it."""
        here = block.slots.unsqueeze(2) == self.plan.held[block.end].unsqueeze(3)
        index = here.long().argmax(dim=3).unsqueeze(3)
        return values.gather(2, index.expand(-1, values.shape[1], -1, values.shape[3]))

    def _told(self, slots: Tensor) -> list[Tensor]:
        """Number, mean time and position of slots ``(B, K or 1, S)``, and since when they are as they are."""
        entries, plan = self.entries, self.plan
        span, number = (plan.start.gather(2, slots), plan.stop.gather(2, slots)), self.number(slots)
        means = []
        for x in (entries.time, entries.position):
            total = functional.pad((x * entries.number).cumsum(dim=2), (1, 0))
            means.append(_between(total, *span) / number)
        return [number, *means, _at(entries.since, plan.born[slots])]

    def memory(self, moments: torch.dtype) -> TemporalMemory:
        """All that can be read, and when; with times and positions of a number type."""
        plan = self.plan
        slots = torch.arange(len(plan.born), device=plan.born.device).expand_as(plan.gone)
        _, time, position, since = self._told(slots)
        until = _at(functional.pad(self.entries.since, (0, 1), value=FOREVER), plan.gone)
        values = torch.cat([*self.shown, *self.mixed], dim=2)
        told = (values, time.to(moments), position.to(moments), since, until)
        return TemporalMemory(*(x.transpose(1, 2) for x in told))

    def state(self, capacity: int) -> State:
        """The bank and how far it is filled, ``(B, K, M)`` and ``(B, K, M, D)``."""
        slots = self.plan.held[self.entries.tokens.shape[2]]
        # As planned, to the last bit: what is merged later does not depend on where a sequence is cut into chunks.
        tokens = self.tokens - self.tokens.detach() + self.plan.final
        told = [x.expand(-1, tokens.shape[1], -1) for x in self._told(slots)]
        missing = capacity - slots.shape[2]
        filled = {name: functional.pad(x, (0, missing)) for name, x in zip(_TOLD, told, strict=True)}
        for name, x in (("tokens", tokens), ("written", self.written)):
            filled[name] = functional.pad(x, (0, 0, 0, missing))
        return {**filled, "filled": self.entries.lengths.clamp(max=capacity)}


def _at(of: Tensor, index: Tensor) -> Tensor:
    """Of ``(B, K or 1, L)`` the columns ``(B, K or 1, S)``."""
    columns = max(of.shape[1], index.shape[1])
    return of.expand(-1, columns, -1).gather(2, index.expand(-1, columns, -1))


def _between(total: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Sums over ranges, from running sums ``(B, K or 1, L + 1)``."""
    return _at(total, end) - _at(total, begin)

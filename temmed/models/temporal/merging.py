"""Which neighbours in a bank of fixed size are merged when it overflows.

The rule is that of MA-LMM (He et al. 2024): the two neighbours in time that are most alike become their mean, place by
place. What differs: all merges of a sequence are planned before anything else is computed, so that what is learned runs
over many positions at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: Under this a product of norms is no divisor.
_TINY = 1e-8


@dataclass(frozen=True)
class Plan:
    """All slots that a bank of M ever holds while L entries are written to it, and what becomes of them.

    The first L slots are the entries themselves, of which a bank may hold some from the start; then comes what was
    merged, one slot for each entry after the first M. There is one column for all places if nothing is merged. Times
    are counted in entries.

    Attributes:
        start: ``(B, K or 1, S)`` long, the first entry that a slot stands for.
        stop: ``(B, K or 1, S)`` long, the one after the last.
        born: ``(S,)`` long, the entry whose writing makes it.
        gone: ``(B, K or 1, S)`` long, the entry whose writing merges it into another; L if none does.
        held: by number of entries written, the slots then in the bank, ``(B, K or 1, at most M)``, oldest first; of a
            sequence with fewer entries, those in its bank at its end.
        final: ``(B, K, at most M, D)`` what the bank holds at the end.
    """

    start: Tensor
    stop: Tensor
    born: Tensor
    gone: Tensor
    held: dict[int, Tensor]
    final: Tensor


@torch.no_grad()
def plan_merges(values: Tensor, numbers: Tensor, lengths: Tensor, capacity: int, wanted: set[int]) -> Plan:
    """Decide what is merged.

    Args:
        values: ``(B, K, L, D)`` the entries, of which those behind the last of a sequence are not looked at.
        numbers: ``(B, K or 1, L)`` how many images each stands for.
        lengths: ``(B,)`` entries of each sequence.
        capacity: M.
        wanted: numbers of entries written for which `Plan.held` is asked.
    """
    size, places, length, _ = values.shape
    merges = max(length - capacity, 0)
    columns = places if merges else 1
    entry = torch.arange(length, device=values.device)
    born = torch.cat([entry, entry[capacity:]])
    start = born.expand(size, columns, -1).clone()
    stop, gone = start + 1, torch.full_like(start, length)
    held = {n: entry[:n].expand(size, columns, -1) for n in wanted if n <= min(capacity, length)}
    final = values[:, :, :capacity]
    if merges:
        bank = _Bank(values, numbers, capacity)
        every = bool((lengths == length).all())
        for written in range(capacity, length):
            active = None if every else (lengths > written)[:, None, None]
            merged = length + written - capacity
            bank.write(written)
            lost = bank.merge(merged, active)
            # What is merged in sequences that have ended is never looked at, but their slots stay.
            start[..., merged] = start.gather(2, lost[..., :1]).squeeze(2)
            stop[..., merged] = stop.gather(2, lost[..., 1:]).squeeze(2)
            moment = torch.full_like(lost, written)
            gone.scatter_(2, lost, moment if active is None else torch.where(active, moment, gone.gather(2, lost)))
            if written + 1 in wanted:
                held[written + 1] = bank.slots()
        final = bank.values()
    return Plan(start, stop, born, gone, held, final)


class _Bank:
    """M slots and one more at each of R = B · K places, while merges are planned.

    Slots lie in rows of a store in any order, so that a merge touches few of them. ``order`` has the rows in the order
    of time; its last column is the row for the next entry. Column s + 1 of ``alike`` is how much the slot that is s-th
    in time is like the next one; its first column is never looked at.

    Args:
        values: ``(B, K, L, D)``, the entries.
        numbers: ``(B, K or 1, L)``.
        capacity: M.
    """

    def __init__(self, values: Tensor, numbers: Tensor, capacity: int) -> None:
        self.entries, self.capacity = values, capacity
        self.entry_numbers = numbers.expand(*values.shape[:2], -1)
        rows, width = values.shape[0] * values.shape[1], capacity + 1
        self.store = values[:, :, :width].clone(memory_format=torch.contiguous_format).view(rows * width, -1)
        self.norms = self.store.norm(dim=1)
        self.numbers = self.entry_numbers[:, :, :width].reshape(-1).clone()
        self.names = torch.arange(width, device=values.device).repeat(rows)
        self.order = torch.arange(rows * width, device=values.device).view(rows, width)
        alike = functional.cosine_similarity(values[:, :, 1:width], values[:, :, :capacity], dim=-1)
        self.alike = functional.pad(alike.flatten(0, 1), (1, 0))
        self.columns = torch.arange(capacity, device=values.device)
        self.around = torch.arange(-1, 3, device=values.device)

    def write(self, entry: int) -> None:
        """Put an entry behind the last slot."""
        if entry == self.capacity:
            return  # it has been there from the start
        before, row = self.order[:, -2], self.order[:, -1]
        value = self.entries[:, :, entry].flatten(0, 1)
        norm = value.norm(dim=1)
        self.store[row], self.norms[row], self.names[row] = value, norm, entry
        self.numbers[row] = self.entry_numbers[:, :, entry].flatten()
        alike = (self.store.index_select(0, before) * value).sum(dim=1)
        self.alike[:, -1] = alike / (self.norms[before] * norm).clamp(min=_TINY)

    def merge(self, name: int, active: Tensor | None) -> Tensor:
        """Merge the two neighbours that are most alike at each place.

        Args:
            name: of the slot that they become.
            active: ``(B, 1, 1)`` the sequences that have not ended; ``None`` if all.

        Returns:
            ``(B, K, 2)``, the slots that were merged.
        """
        first = self.alike[:, 1:].argmax(dim=1, keepdim=True)
        near = self.order.gather(1, (first + self.around).clamp(0, self.capacity))
        row = near[:, 1]
        values = self.store.index_select(0, near.flatten()).unflatten(0, near.shape)
        numbers, lost = self.numbers[near[:, 1:3]], self.names[near[:, 1:3]]
        number = numbers.sum(dim=1)
        share = (numbers / number.unsqueeze(1)).to(values.dtype)
        mean = (values[:, 1:3] * share.unsqueeze(2)).sum(dim=1)
        norm = mean.norm(dim=1)
        after = self.columns + (self.columns > first)
        alike = (values[:, ::3] * mean.unsqueeze(1)).sum(dim=2)
        alike = alike / (self.norms[near[:, ::3]] * norm.unsqueeze(1)).clamp(min=_TINY)
        self.alike[:, :-1] = self.alike.gather(1, after)
        self.alike.scatter_(1, torch.cat([first, first + 1], dim=1), alike)
        order = torch.cat([self.order.gather(1, after), near[:, 2:3]], dim=1)
        names = torch.full_like(row, name)
        if active is not None:
            there = active.expand(-1, self.entries.shape[1], 1).flatten(0, 1)
            mean, order = torch.where(there, mean, values[:, 1]), torch.where(there, order, self.order)
            there = there.squeeze(1)
            norm, number = torch.where(there, norm, self.norms[row]), torch.where(there, number, numbers[:, 0])
            names = torch.where(there, names, lost[:, 0])
        self.store[row], self.norms[row], self.numbers[row], self.names[row] = mean, norm, number, names
        self.order = order
        return lost.unflatten(0, self.entries.shape[:2])

    def slots(self) -> Tensor:
        """The slots ``(B, K, M)``, oldest first."""
        return self.names[self.order[:, :-1]].unflatten(0, self.entries.shape[:2])

    def values(self) -> Tensor:
        """What they hold, ``(B, K, M, D)``."""
        return self.store[self.order[:, :-1]].unflatten(0, self.entries.shape[:2])

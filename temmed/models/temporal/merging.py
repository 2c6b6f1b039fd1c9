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
        bank = _Bank(values, numbers.expand(-1, columns, -1), capacity)
        every = bool((lengths == length).all())
        for written in range(capacity, length):
            active = None if every else (lengths > written)[:, None, None]
            bank.write(written)
            lost = bank.merge(length + written - capacity, active)
            merged = length + written - capacity
            # What belongs to sequences that have ended already is never looked at, but their slots stay.
            start[..., merged] = start.gather(2, lost[..., :1]).squeeze(2)
            stop[..., merged] = stop.gather(2, lost[..., 1:]).squeeze(2)
            moment = torch.full_like(lost, written)
            gone.scatter_(2, lost, moment if active is None else torch.where(active, moment, gone.gather(2, lost)))
            if written + 1 in wanted:
                held[written + 1] = bank.slots[..., :capacity].clone()
        final = bank.values[:, :, :capacity]
    return Plan(start, stop, born, gone, held, final)


class _Bank:
    """M slots and one more at each place, while merges are planned.

    Args:
        values: ``(B, K, L, D)``, the entries.
        numbers: ``(B, K, L)``.
        capacity: M.
    """

    def __init__(self, values: Tensor, numbers: Tensor, capacity: int) -> None:
        self.entries, self.entry_numbers, self.capacity = values, numbers, capacity
        self.values = values[:, :, : capacity + 1].clone()
        self.numbers = numbers[:, :, : capacity + 1].clone()
        self.slots = torch.arange(capacity + 1, device=values.device).expand_as(self.numbers).clone()
        # Column s + 1 is how much slot s is like the next; the first column is never looked at.
        alike = functional.cosine_similarity(self.values[:, :, 1:], self.values[:, :, :-1], dim=-1)
        self.alike = functional.pad(alike, (1, 0))
        self.order = torch.arange(capacity, device=values.device)
        self.around = torch.arange(-1, 3, device=values.device)

    def write(self, entry: int) -> None:
        """Put an entry behind the last slot."""
        last = self.capacity
        if entry == last:
            return
        value = self.entries[:, :, entry]
        self.values[:, :, last] = value
        self.numbers[:, :, last] = self.entry_numbers[:, :, entry]
        self.slots[:, :, last] = entry
        self.alike[:, :, last] = functional.cosine_similarity(self.values[:, :, last - 1], value, dim=-1)

    def merge(self, name: int, active: Tensor | None) -> Tensor:
        """Merge the two neighbours that are most alike at each place, and move up what is behind them.

        Args:
            name: of the slot that they become.
            active: ``(B, 1, 1)`` the sequences that have not ended; ``None`` if all.

        Returns:
            ``(B, K, 2)``, the slots that were merged.
        """
        first = self.alike[..., 1:].argmax(dim=-1, keepdim=True)
        near = (first + self.around).clamp(0, self.capacity)
        left, one, two, right = self._values_at(near).unbind(2)
        numbers, lost = (x.gather(2, near[..., 1:3]) for x in (self.numbers, self.slots))
        number = numbers.sum(dim=-1, keepdim=True)
        mean = torch.einsum("bkpd,bkp->bkd", torch.stack([one, two], dim=2), (numbers / number).to(one.dtype))
        after = self.order + (self.order > first)
        here = first.unsqueeze(-1).expand(*first.shape, mean.shape[-1])
        self._keep(self.values, self._values_at(after).scatter_(2, here, mean.unsqueeze(2)), active)
        self._keep(self.numbers, self.numbers.gather(2, after).scatter_(2, first, number), active)
        self._keep(self.slots, self.slots.gather(2, after).scatter_(2, first, name), active)
        beside = functional.cosine_similarity(torch.stack([left, right], dim=2), mean.unsqueeze(2), dim=-1)
        self.alike[..., :-1] = self.alike.gather(2, after)
        self.alike.scatter_(2, torch.cat([first, first + 1], dim=2), beside)
        return lost

    def _keep(self, of: Tensor, new: Tensor, active: Tensor | None) -> None:
        """Take over the first M columns of what has changed, but for sequences that have ended."""
        old = of[:, :, : self.capacity]
        if active is not None:
            new = torch.where(active.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        old.copy_(new)

    def _values_at(self, index: Tensor) -> Tensor:
        return self.values.gather(2, index.unsqueeze(-1).expand(*index.shape, self.values.shape[-1]))

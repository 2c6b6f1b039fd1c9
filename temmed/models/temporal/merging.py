"""Which neighbours in a bank of fixed size are merged when it overflows.

The rule is that of MA-LMM (He et al. 2024): the two neighbours in time that are most alike become their mean, place by
place. What differs: all merges of a sequence are planned before anything else is computed, so that what is learned runs
over many positions at once. The planning itself goes entry by entry, many small steps on little data, for which NumPy
is several times faster than torch; on another device the tokens are copied for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    device = values.device
    entry = torch.arange(length, device=device)
    born = torch.cat([entry, entry[capacity:]])
    first = {n: entry[:n].expand(size, 1, -1) for n in wanted if n <= min(capacity, length)}
    if length <= capacity:
        start = born.expand(size, 1, -1)
        return Plan(start, start + 1, born, torch.full_like(start, length), first, values.detach())
    bank = _Bank(values, numbers, born, capacity)
    ends = None if bool((lengths == length).all()) else lengths.cpu().numpy().repeat(places)
    held = {}
    for written in range(capacity, length):
        bank.write(written)
        bank.merge(written, None if ends is None else ends > written)
        if written + 1 in wanted:
            held[written + 1] = bank.names[bank.order[:, :-1]]

    def back(found: NDArray) -> Tensor:
        return torch.from_numpy(found).to(device).unflatten(0, (size, places))

    told = {n: back(names) for n, names in held.items()}
    columns = {n: names.expand(-1, places, -1) for n, names in first.items()}
    final = back(bank.store[bank.order[:, :-1]]).to(values.dtype)
    return Plan(back(bank.start), back(bank.stop), born, back(bank.gone), {**columns, **told}, final)


class _Bank:
    """M slots and one more at each of R = B · K places, while merges are planned.

    Slots lie in rows of a store in any order, so that a merge touches few of them. ``order`` has the rows in the order
    of time; its last column is the row for the next entry. Column s + 1 of ``alike`` is how much the slot that is s-th
    in time is like the next one; its first column is never looked at.

    Args:
        values: ``(B, K, L, D)``, the entries.
        numbers: ``(B, K or 1, L)``.
        born: ``(S,)``, the entry whose writing makes each slot.
        capacity: M.
    """

    def __init__(self, values: Tensor, numbers: Tensor, born: Tensor, capacity: int) -> None:
        size, places, self.length, dim = values.shape
        rows, width = size * places, capacity + 1
        values = values.detach().cpu()
        self.entries = (values if values.dtype == torch.float64 else values.float()).numpy()
        self.entry_numbers = numbers.expand(-1, places, -1).cpu().numpy()
        self.store = self.entries[:, :, :width].reshape(rows * width, dim).copy()
        self.norms = np.sqrt(_products(self.store, self.store))
        self.numbers = self.entry_numbers[:, :, :width].reshape(-1).copy()
        self.names = np.tile(np.arange(width), rows)
        self.order = np.arange(rows * width).reshape(rows, width)
        held = self.store.reshape(rows, width, dim)
        alike = np.einsum("rwd,rwd->rw", held[:, 1:], held[:, :-1])
        norms = self.norms.reshape(rows, width)
        self.alike = np.pad(alike / np.maximum(norms[:, 1:] * norms[:, :-1], _TINY), ((0, 0), (1, 0)))
        self.start = np.tile(born.cpu().numpy(), (rows, 1))
        self.stop, self.gone = self.start + 1, np.full_like(self.start, self.length)
        self.capacity, self.columns, self.every = capacity, np.arange(width), np.arange(rows)

    def write(self, entry: int) -> None:
        """Put an entry behind the last slot."""
        if entry == self.capacity:
            return  # it has been there from the start
        before, row = self.order[:, -2], self.order[:, -1]
        value = self.entries[:, :, entry].reshape(len(row), -1)
        norm = np.sqrt(_products(value, value))
        self.store[row], self.norms[row], self.names[row] = value, norm, entry
        self.numbers[row] = self.entry_numbers[:, :, entry].reshape(-1)
        self.alike[:, -1] = _products(self.store[before], value) / np.maximum(self.norms[before] * norm, _TINY)

    def merge(self, entry: int, active: NDArray[np.bool_] | None) -> None:
        """Merge the two neighbours that are most alike at each place, now that an entry is written.

        Args:
            entry: what was written.
            active: ``(R,)`` whether a place's sequence has not ended; ``None`` if none has.
        """
        first = self.alike[:, 1:].argmax(axis=1)
        left, one, two, right = (
            self.order[self.every, (first + step).clip(0, self.capacity)] for step in (-1, 0, 1, 2)
        )
        values, others = self.store[one], self.store[two]
        count, more = self.numbers[one], self.numbers[two]
        number = count + more
        mean = values * (count / number)[:, None].astype(values.dtype)
        mean += others * (more / number)[:, None].astype(values.dtype)
        norm = np.sqrt(_products(mean, mean))
        behind = self.columns[:-1] > first[:, None]
        self.alike[:, :-1] = np.where(behind, self.alike[:, 1:], self.alike[:, :-1])
        for column, beside in ((first, left), (first + 1, right)):
            alike = _products(self.store[beside], mean) / np.maximum(self.norms[beside] * norm, _TINY)
            self.alike[self.every, column] = alike
        order = np.concatenate([np.where(behind, self.order[:, 1:], self.order[:, :-1]), two[:, None]], axis=1)
        name = self.length + entry - self.capacity
        lost = self.names[one], self.names[two]
        self.start[:, name], self.stop[:, name] = self.start[self.every, lost[0]], self.stop[self.every, lost[1]]
        here = slice(None) if active is None else active
        for names in lost:
            self.gone[self.every[here], names[here]] = entry
        one = one[here]
        self.store[one], self.norms[one], self.numbers[one] = mean[here], norm[here], number[here]
        self.names[one], self.order[here] = name, order[here]


def _products(left: NDArray, right: NDArray) -> NDArray:
    """Inner products of rows ``(R, D)``."""
    products: NDArray = np.einsum("rd,rd->r", left, right)
    return products

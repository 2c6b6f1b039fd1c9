"""Which items make a batch: of like length, within a budget, of one image size; a function of sizes and draws alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from temmed.data.streaming.order import ShardOrder

Indices = NDArray[np.int64]
#: Batches among which items of like length are mixed, when shuffled.
_BUCKET = 8


@dataclass(frozen=True)
class Budget:
    """The most that a batch may hold; an item that is more by itself stands alone.

    Attributes:
        items: sequences, where no other bound is given.
        frames: images.
        pairs: positions x questions, padding included: what the reader's attention takes memory for.
    """

    items: int
    frames: int | None = None
    pairs: int | None = None

    @property
    def counts_items(self) -> bool:
        """Whether the number of sequences is what is bounded."""
        return self.frames is None and self.pairs is None

    def room(self, positions: int, questions: int, images: int) -> int:
        """How many items fit, if none has more of anything than this; 0 if not even one."""
        if self.counts_items:
            return self.items
        bounds = ((self.frames, images), (self.pairs, positions * questions))
        return min(bound // max(size, 1) for bound, size in bounds if bound is not None)

    def too_large(self, sizes: Sequence[tuple[int, int, int]]) -> int:
        """How many items are over the budget by themselves."""
        return sum(self.room(*size) < 1 for size in sizes)


def plan(
    sizes: NDArray[np.int64],
    budget: Budget,
    rng: np.random.Generator | None = None,
    groups: NDArray[np.int64] | None = None,
    shards: ShardOrder | None = None,
) -> list[Indices]:
    """All batches of an epoch: every item once, in as many batches whatever is drawn.

    Without draws, items are sorted by positions and questions. With draws, batches come in random order, and

    - where the number of items is bounded, random groups of items are sorted by positions and cut;
    - else all are sorted by positions, ties at random, and mixed within runs of `_BUCKET` batches, whose number of
      items is what fits of the largest in the run. So the number of batches, which schedules need to know, depends on
      the sizes alone.

    Items with few questions stay among those with many: in a batch of their own each question would weigh more.

    Args:
        sizes: ``(n, 3)`` the most positions, questions and images of each item; what a batch is padded to, and costs.
        budget: what a batch may hold.
        rng: of the draws; ``None`` for none.
        groups: ``(n,)``; items of different groups share no batch.
        shards: where the items lie. Batches then stay near their shards: with draws and a bounded number of items, as
            `ShardOrder` mixes them; else within fixed runs of shards.
    """
    order = _order(len(sizes), rng, shards)
    near = shards is not None and rng is not None and budget.counts_items
    runs = None if shards is None or near else shards.shards // shards.window
    batches: list[Indices] = []
    for run in [order] if runs is None else _parts(order, runs, rng):
        found = [
            batch
            for part in ([run] if groups is None else _parts(run, groups, None))
            for batch in _cut(part, sizes, budget, rng)
        ]
        if rng is not None:
            found = _shuffled_near(found, order, rng) if near else [found[k] for k in rng.permutation(len(found))]
        batches += found
    return batches


def _order(count: int, rng: np.random.Generator | None, shards: ShardOrder | None) -> Indices:
    if shards is not None:
        return shards.items(rng)
    return np.arange(count) if rng is None else rng.permutation(count)


def _shuffled_near(batches: list[Indices], order: Indices, rng: np.random.Generator) -> list[Indices]:
    """In random order within runs of neighbours; where a batch is in the order of items, its first one is."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    ordered = sorted(batches, key=lambda batch: place[batch].min())
    return [ordered[k] for k in ShardOrder.batches(len(ordered), _BUCKET, rng)]


def _parts(order: Indices, groups: NDArray[np.int64], rng: np.random.Generator | None) -> list[Indices]:
    """The items of each group, in their order; the groups in random order if there are draws."""
    names = np.unique(groups[order])
    return [order[groups[order] == name] for name in (names if rng is None else rng.permutation(names))]


def at_least(batches: list[Indices], number: int) -> list[Indices]:
    """The batches, the largest halved until there are so many, or each has one item: no process is left without."""
    while len(batches) < number and max(map(len, batches)) > 1:
        largest = max(range(len(batches)), key=lambda k: len(batches[k]))
        batches[largest : largest + 1] = np.array_split(batches[largest], 2)
    return batches


def _cut(
    order: Indices, sizes: NDArray[np.int64], budget: Budget, rng: np.random.Generator | None
) -> Iterator[Indices]:
    if rng is None:
        order = order[np.lexsort((sizes[order, 1], sizes[order, 0]))]
        return _pieces(order, budget.items) if budget.counts_items else _filled(order, sizes, budget)
    if not budget.counts_items:
        return _mixed(order, sizes, budget, rng)
    runs = _pieces(order, budget.items * _BUCKET)
    return (batch for run in runs for batch in _pieces(run[np.argsort(sizes[run, 0], kind="stable")], budget.items))


def _pieces(order: Indices, length: int) -> Iterator[Indices]:
    return (order[start : start + length] for start in range(0, len(order), length))


def _filled(order: Indices, sizes: NDArray[np.int64], budget: Budget) -> Iterator[Indices]:
    """Cut where the next item would be too much."""
    start = 0
    frames, peak = 0, np.zeros(2, np.int64)
    for stop, item in enumerate(order.tolist()):
        frames, peak = frames + sizes[item, 2], np.maximum(peak, sizes[item, :2])
        over = budget.frames is not None and frames > budget.frames
        over |= budget.pairs is not None and (stop - start + 1) * peak.prod() > budget.pairs
        if over and stop > start:
            yield order[start:stop]
            start, frames, peak = stop, sizes[item, 2], sizes[item, :2]
    yield order[start:]


def _mixed(order: Indices, sizes: NDArray[np.int64], budget: Budget, rng: np.random.Generator) -> Iterator[Indices]:
    """Sorted by positions, longest first, and mixed within runs; see `plan`."""
    lengths, length = np.unique(sizes[:, 0], return_inverse=True)
    # Of all items of a length, so that bounds do not depend on the order of ties.
    peaks = np.zeros((len(lengths), 2), np.int64)
    np.maximum.at(peaks, length[order], sizes[order, 1:])
    order = order[np.argsort(-sizes[order, 0], kind="stable")]

    def room(longest: int, shortest: int) -> int:
        return max(1, budget.room(lengths[longest], *peaks[shortest : longest + 1].max(axis=0)))

    start = 0
    while start < len(order):
        longest = length[order[start]]
        last = min(start + _BUCKET * room(longest, longest), len(order)) - 1
        count = room(longest, length[order[last]])
        run = rng.permutation(order[start : start + _BUCKET * count])
        yield from np.array_split(run, -(-len(run) // count))
        start += len(run)

"""The order of batches, fixed by seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from temmed.data.batch import TimelineBatch, count_items
from temmed.data.streaming.order import ShardOrder

#: Batches whose items are sorted together, when shuffled.
_BUCKET = 8


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index), of items of like size, so that little is padded.

    When shuffled, random groups of items are sorted by the first size, cut into batches, and these are put in random
    order. Items with few questions stay among those with many: in a batch of their own each question would weigh more.
    Else all items are sorted by all sizes once.

    Args:
        sizes: of each item, what a batch is padded to: positions, questions.
        batch_size: items per batch.
        shuffle: a new order each epoch.
        seed: of the orders.
        rank: of this process; each gets every ``world_size``-th batch.
        world_size: processes; when shuffled, batches are repeated so that all have as many.
        order: for items that lie in shards: these are read one after the other, and each process reads its own.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, ...]],
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        order: ShardOrder | None = None,
    ) -> None:
        self.sizes, self.batch_size, self.shuffle, self.seed = np.asarray(sizes), batch_size, shuffle, seed
        self.rank, self.world_size, self.order = rank, world_size, order
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of this process in an epoch."""
        return len(self._shares())

    def _shares(self) -> range:
        count = -(-len(self.sizes) // self.batch_size)
        if self.order is not None:
            return self.order.share(count, self.rank, self.world_size, even=self.shuffle)
        if self.shuffle:
            count = -(-count // self.world_size) * self.world_size
        return range(self.rank, count, self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """The batches of this process in the current epoch."""
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.order is not None:
            order = self.order.items(rng if self.shuffle else None)
        else:
            order = rng.permutation(len(self.sizes)) if self.shuffle else np.arange(len(self.sizes))
        bucket = self.batch_size * _BUCKET if self.shuffle or self.order is not None else len(order)
        batches: list[np.ndarray] = []
        for start in range(0, len(order), bucket):
            part = order[start : start + bucket]
            keys = self.sizes[part, :1] if self.shuffle else self.sizes[part]
            part = part[np.lexsort(keys.T[::-1])]
            batches.extend(part[k : k + self.batch_size] for k in range(0, len(part), self.batch_size))
        if self.shuffle:
            count = len(batches)
            mixed = rng.permutation(count) if self.order is None else self.order.batches(count, _BUCKET, rng)
            batches = [batches[k] for k in mixed]
        for number in self._shares():
            yield [(self.epoch, int(index)) for index in batches[number % len(batches)]]


class WindowLoader:
    """A loader whose batches know how many items count in their accumulation window.

    Args:
        loader: the loader of single batches.
        window: batches per optimizer step.
    """

    def __init__(self, loader: DataLoader, window: int) -> None:
        self.loader, self.window = loader, window

    @property
    def sampler(self) -> EpochBatchSampler:
        """Where the trainer sets the epoch."""
        assert isinstance(self.loader.batch_sampler, EpochBatchSampler)
        return self.loader.batch_sampler

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[TimelineBatch]:
        """The batches, each with the counts of its window."""
        pending: list[TimelineBatch] = []
        for batch in self.loader:
            pending.append(batch)
            if len(pending) == self.window:
                yield from self._counted(pending)
                pending = []
        yield from self._counted(pending)

    @staticmethod
    def _counted(batches: list[TimelineBatch]) -> Iterator[TimelineBatch]:
        if batches:
            total = torch.stack([count_items(batch) for batch in batches]).sum(dim=0)
            for batch in batches:
                batch.window = total
                yield batch

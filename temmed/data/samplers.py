"""The order of batches, fixed by seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from temmed.data.batch import TimelineBatch, count_items
from temmed.data.batching import Budget, plan


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index), of items of like size, so that little is padded; `temmed.data.batching.plan` says how.

    Args:
        sizes: of each item, what a batch is padded to, and costs: positions, questions, images.
        batch_size: items per batch.
        shuffle: a new order each epoch.
        seed: of the orders.
        rank: of this process; each gets every ``world_size``-th batch.
        world_size: processes; when shuffled, batches are repeated so that all have as many.
        groups: items of different groups share no batch.
        frames: at most so many images in a batch, in place of a number of items.
        pairs: at most so many positions x questions in a batch, in place of a number of items.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, ...]],
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        groups: Sequence[int] | None = None,
        frames: int | None = None,
        pairs: int | None = None,
    ) -> None:
        self.sizes, self.shuffle, self.seed = np.asarray(sizes), shuffle, seed
        self.budget = Budget(batch_size, frames, pairs)
        self.groups = None if groups is None else np.asarray(groups)
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._count = len(self._plan())

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of this process in an epoch."""
        return len(self._shares())

    def _shares(self) -> range:
        count = self._count
        if self.shuffle:
            count = -(-count // self.world_size) * self.world_size
        return range(self.rank, count, self.world_size)

    def _plan(self) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, self.epoch]) if self.shuffle else None
        return plan(self.sizes, self.budget, rng, self.groups)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """The batches of this process in the current epoch."""
        batches = self._plan()
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

"""The order of batches, fixed by seed and epoch alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from temmed.data.batch import TimelineBatch, count_items
from temmed.data.batching import Budget, at_least, plan
from temmed.data.streaming.order import ShardOrder
from temmed.errors import InputError

#: What the order of batches is made from, and what a user sets to have it as it was.
_REMEDIES = {
    "seed": "Give the seed of the former run.",
    "sequences": "Use the data and the data settings of the former run.",
    "sizes": "Use the data and the data settings of the former run.",
    "batch size": "Give the data.batch_size of the former run.",
    "frames": "Give the data.frames_per_batch of the former run.",
    "pairs": "Give the data.pairs_per_batch of the former run.",
    "processes": "Give as many trainer.devices and trainer.num_nodes as in the former run.",
    "batches per step": "Give the trainer.accumulate_grad_batches of the former run.",
}


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index), of items of like size, so that little is padded; `temmed.data.batching.plan` says how.

    Args:
        sizes: of each item, what a batch is padded to, and costs: positions, questions, images.
        budget: what a batch may hold.
        shuffle: a new order each epoch.
        seed: of the orders.
        rank: of this process; each gets every ``world_size``-th batch.
        world_size: processes; when shuffled, batches are repeated so that all have as many.
        groups: items of different groups share no batch.
        shards: for items that lie in shards: these are read one after the other, and each process reads its own.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, ...]],
        budget: Budget,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        groups: Sequence[int] | None = None,
        shards: ShardOrder | None = None,
    ) -> None:
        self.sizes, self.budget, self.shuffle, self.seed = np.asarray(sizes), budget, shuffle, seed
        self.groups = None if groups is None else np.asarray(groups)
        self.rank, self.world_size, self.shards = rank, world_size, shards
        self.epoch = 0
        self._left_out = {0: 0}
        self._count = len(self._plan())

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def leave_out(self, epoch: int, batches: int) -> None:
        """Begin that epoch after so many batches; all other epochs are whole."""
        self._left_out = {epoch: batches}

    @property
    def first(self) -> int:
        """Number of the batch with which the current epoch begins."""
        return self._left_out.get(self.epoch, 0)

    def describe(self) -> dict[str, int | str]:
        """What the order of batches is made from."""
        columns = [self.sizes]
        columns += [] if self.groups is None else [self.groups]
        columns += [] if self.shards is None else [self.shards.shards]
        known = np.ascontiguousarray(np.column_stack(columns), dtype="<i8")
        return {
            "seed": self.seed,
            "sequences": len(self.sizes),
            "sizes": hashlib.sha256(known.tobytes()).hexdigest()[:12],
            "batch size": self.budget.items,
            "frames": self.budget.frames or 0,
            "pairs": self.budget.pairs or 0,
            "processes": self.world_size,
        }

    def __len__(self) -> int:
        """Batches of this process in a whole epoch."""
        return len(self._shares())

    def _shares(self) -> range:
        count = self._count
        if self.shards is not None:
            return self.shards.share(count, self.rank, self.world_size, even=self.shuffle)
        if self.shuffle:
            count = -(-count // self.world_size) * self.world_size
        return range(self.rank, count, self.world_size)

    def _plan(self) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, self.epoch]) if self.shuffle else None
        batches = plan(self.sizes, self.budget, rng, self.groups, self.shards)
        return batches if self.shuffle or self.budget.counts_items else at_least(batches, self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """The batches of this process in the current epoch, or in what is left of it."""
        batches = self._plan()
        for number in self._shares()[self.first :]:
            yield [(self.epoch, int(index)) for index in batches[number % len(batches)]]


class WindowLoader:
    """A loader whose batches know how many items count in their accumulation window.

    It knows its place: `state_dict` is what a checkpoint keeps of it, and a loader that is given this goes on with the
    batch after, whatever its number of workers, and reads nothing of what came before.

    Args:
        loader: the loader of single batches.
        window: batches per optimizer step.
    """

    def __init__(self, loader: DataLoader, window: int) -> None:
        self.loader, self.window = loader, window
        self._epoch, self._given = 0, 0

    @property
    def sampler(self) -> EpochBatchSampler:
        """Where the trainer sets the epoch."""
        assert isinstance(self.loader.batch_sampler, EpochBatchSampler)
        return self.loader.batch_sampler

    def state_dict(self) -> dict[str, Any]:
        """The epoch, the batches of it that each process was given, and what their order is made from."""
        return {"epoch": self._epoch, "batches": self._given, "order": self._order()}

    def _order(self) -> dict[str, int | str]:
        return {**self.sampler.describe(), "batches per step": self.window}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the batches of a former `state_dict`.

        Raises:
            InputError: the batches come in another order here, or the place is amid those of one optimizer step.
        """
        order = self._order()
        for name, remedy in _REMEDIES.items():
            if order[name] != state["order"][name]:
                raise InputError(
                    f"{name} {state['order'][name]}, so that the batches are those of the checkpoint",
                    str(order[name]),
                    "ckpt_path",
                    remedy,
                )
        if state["batches"] < len(self) and state["batches"] % self.window:
            raise InputError(
                "a checkpoint that was written after an optimizer step",
                f"one after batch {state['batches']}, with {self.window} batches per step",
                "ckpt_path",
                "Give checkpoints/last.ckpt of the run.",
            )
        self.sampler.leave_out(state["epoch"], state["batches"])

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[TimelineBatch]:
        """The batches, each with the counts of its window."""
        self._epoch, self._given = self.sampler.epoch, self.sampler.first
        pending: list[TimelineBatch] = []
        for batch in self.loader:
            pending.append(batch)
            if len(pending) == self.window:
                yield from self._counted(pending)
                pending = []
        yield from self._counted(pending)

    def _counted(self, batches: list[TimelineBatch]) -> Iterator[TimelineBatch]:
        if batches:
            total = torch.stack([count_items(batch) for batch in batches]).sum(dim=0)
            for batch in batches:
                batch.window = total
                self._given += 1
                yield batch

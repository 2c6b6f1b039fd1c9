"""An order of training and testing that reads shard by shard, and a division among processes by shards.

All of it is a function of the shards of the items and a generator, so that every process and every later run makes the
same. Random choice from all items would need every shard at every moment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Shards whose items are mixed.
WINDOW = 4


class ShardOrder:
    """The order of the items of a data set that lies in shards.

    Args:
        shards: of each item, the number of its shard.
        window: shards whose items are mixed.
    """

    def __init__(self, shards: Sequence[int], window: int = WINDOW) -> None:
        self.shards, self.window = np.asarray(shards, np.int64), window

    def items(self, rng: np.random.Generator | None) -> NDArray[np.int64]:
        """Every item once.

        Args:
            rng: for training: the shards in random order, and within each few of them the items in random order.
                Without it: by shard, and then as they are.
        """
        if rng is None:
            return np.argsort(self.shards, kind="stable")
        shards, place = np.unique(self.shards, return_inverse=True)
        rank = rng.permutation(len(shards))[place]
        return np.lexsort((rng.random(len(place)), rank // self.window))

    @staticmethod
    def batches(count: int, bucket: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Batches in random order within runs of ``bucket``, so that they stay near their shards."""
        return np.lexsort((rng.random(count), np.arange(count) // bucket))

    @staticmethod
    def share(count: int, rank: int, world_size: int, even: bool) -> range:
        """The batches of one process: neighbours, which lie in the same shards.

        Args:
            count: batches of all processes.
            rank: of the process.
            world_size: processes.
            even: all processes have as many batches; the numbers then go on beyond ``count``, and stand for the
                batches from the first on.
        """
        if even:
            each = -(-count // world_size)
            return range(rank * each, (rank + 1) * each)
        return range(rank * count // world_size, (rank + 1) * count // world_size)

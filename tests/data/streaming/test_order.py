"""Orders that read shard by shard lose nothing and read nothing twice, for any number of processes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from temmed.data.batching import Budget
from temmed.data.samplers import EpochBatchSampler
from temmed.data.streaming.order import ShardOrder

#: Items in each shard: uneven, and perhaps fewer shards than processes.
_SHARDS = st.lists(st.integers(1, 13), min_size=1, max_size=12)


def _samplers(
    counts: list[int], size: int, world: int, shuffle: bool, epoch: int, window: int = 2
) -> list[EpochBatchSampler]:
    shards = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    sizes = [(int(n), 1, int(n)) for n in np.random.default_rng(1).integers(1, 9, len(shards))]
    samplers = [
        EpochBatchSampler(sizes, Budget(size), shuffle, 3, rank, world, shards=ShardOrder(shards.tolist(), window))
        for rank in range(world)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return samplers


@given(_SHARDS, st.integers(1, 5), st.integers(1, 8), st.integers(0, 3))
def test_training_loses_nothing(counts: list[int], size: int, world: int, epoch: int) -> None:
    samplers = _samplers(counts, size, world, True, epoch)
    shares = [[tuple(index for _, index in batch) for batch in sampler] for sampler in samplers]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    # Each process takes as many steps, so that batches may come twice: fewer than there are processes.
    assert len({len(share) for share in shares}) == 1
    together = [batch for share in shares for batch in share]
    assert len(together) - len(set(together)) < world
    assert sorted(index for batch in set(together) for index in batch) == list(range(sum(counts)))


@given(_SHARDS, st.integers(1, 5), st.integers(1, 8))
def test_evaluation_is_exact(counts: list[int], size: int, world: int) -> None:
    shares = [list(sampler) for sampler in _samplers(counts, size, world, False, 0)]
    indices = [index for share in shares for batch in share for _, index in batch]
    assert sorted(indices) == list(range(sum(counts)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(_SHARDS, st.integers(1, 4), st.integers(0, 5))
def test_items_of_few_shards_are_mixed_at_a_time(counts: list[int], window: int, seed: int) -> None:
    shards = np.repeat(np.arange(len(counts)), counts)
    order = ShardOrder(shards.tolist(), window).items(np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(shards)))
    seen = shards[order]
    first = {shard: np.flatnonzero(seen == shard)[0] for shard in set(seen.tolist())}
    last = {shard: np.flatnonzero(seen == shard)[-1] for shard in first}
    # Shards that are open at the same moment, from their first item to their last.
    open_at_once = [sum(first[s] <= k <= last[s] for s in first) for k in range(len(seen))]
    assert max(open_at_once) <= window


def test_processes_read_mostly_shards_of_their_own() -> None:
    counts, world = [40] * 32, 4
    samplers = _samplers(counts, 8, world, True, 0, window=2)
    assert samplers[0].shards is not None
    shards = samplers[0].shards.shards
    read = [{int(shards[index]) for batch in sampler for _, index in batch} for sampler in samplers]
    assert sum(map(len, read)) <= len(counts) + (world - 1) * 2
    strided = [EpochBatchSampler(samplers[0].sizes.tolist(), Budget(8), True, 3, rank, world) for rank in range(world)]
    assert all(len({int(shards[i]) for batch in one for _, i in batch}) == len(counts) for one in strided)


def test_epochs_differ_and_seeds_repeat() -> None:
    def indices(epoch: int) -> list[int]:
        return [index for batch in _samplers([7, 9, 4, 8], 3, 1, True, epoch)[0] for _, index in batch]

    assert indices(0) == indices(0)
    assert indices(0) != indices(1)

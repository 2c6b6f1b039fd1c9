"""Which items make a batch: each once, within the budget, as many batches in every epoch and for every process."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temmed.data.batching import Budget, plan
from temmed.data.samplers import EpochBatchSampler
from temmed.data.streaming.order import ShardOrder

Sizes = list[tuple[int, int, int]]
#: Positions, questions, images: no more images than positions.
_SIZE = st.tuples(st.integers(1, 12), st.integers(0, 20), st.integers(0, 12)).map(
    lambda size: (size[0], size[1], min(size[0], size[2]))
)
_SIZES = st.lists(_SIZE, min_size=1, max_size=60)
_BUDGETS = st.builds(Budget, st.integers(1, 9), st.none() | st.integers(1, 40), st.none() | st.integers(1, 300))


def _indices(batches: list[np.ndarray]) -> list[int]:
    return sorted(int(index) for batch in batches for index in batch)


def _assert_within(batches: list[np.ndarray], sizes: np.ndarray, budget: Budget) -> None:
    for batch in batches:
        assert len(batch) > 0
        positions, questions, _ = sizes[batch].max(axis=0)
        if len(batch) == 1:
            continue
        if budget.counts_items:
            assert len(batch) <= budget.items
        assert budget.frames is None or sizes[batch, 2].sum() <= budget.frames
        assert budget.pairs is None or len(batch) * positions * questions <= budget.pairs


@given(_SIZES, _BUDGETS, st.booleans(), st.integers(0, 3))
def test_every_item_once_and_within_the_budget(sizes: Sizes, budget: Budget, shuffle: bool, seed: int) -> None:
    array = np.array(sizes)
    batches = plan(array, budget, np.random.default_rng(seed) if shuffle else None)
    assert _indices(batches) == list(range(len(sizes)))
    _assert_within(batches, array, budget)


@given(_SIZES, _BUDGETS, st.lists(st.integers(0, 2), min_size=60, max_size=60), st.booleans())
def test_groups_share_no_batch(sizes: Sizes, budget: Budget, groups: list[int], shuffle: bool) -> None:
    of, array = np.array(groups[: len(sizes)]), np.array(sizes)
    batches = plan(array, budget, np.random.default_rng(0) if shuffle else None, of)
    assert all(len(set(of[batch].tolist())) == 1 for batch in batches)
    assert _indices(batches) == list(range(len(sizes)))
    _assert_within(batches, array, budget)


@given(_SIZES, _BUDGETS, st.integers(1, 4), st.lists(st.integers(0, 1), min_size=60, max_size=60) | st.none())
def test_epochs_and_processes_take_as_many_steps(
    sizes: Sizes, budget: Budget, world: int, groups: list[int] | None
) -> None:
    of = None if groups is None else groups[: len(sizes)]

    def sampler(rank: int, world: int) -> EpochBatchSampler:
        return EpochBatchSampler(sizes, budget, True, 3, rank, world, of)

    whole, ranks = sampler(0, 1), [sampler(rank, world) for rank in range(world)]
    for epoch in range(4):
        for one in (whole, *ranks):
            one.set_epoch(epoch)
        batches = [tuple(batch) for batch in whole]
        shares = [[tuple(batch) for batch in rank] for rank in ranks]
        assert {len(share) for share in shares} == {len(ranks[0])}
        assert len(batches) == len(whole)
        together = [batch for share in shares for batch in share]
        assert set(together) == set(batches)
        # Nothing comes twice but what evens out the processes.
        assert len(together) - len(batches) < world


@st.composite
def _sharded(draw: st.DrawFn) -> tuple[Sizes, list[int], list[int] | None]:
    """Sizes, and for each item its shard and perhaps its group."""
    sizes = draw(_SIZES)

    def numbers(most: int) -> list[int]:
        return draw(st.lists(st.integers(0, most), min_size=len(sizes), max_size=len(sizes)))

    return sizes, numbers(9), draw(st.none() | st.just(numbers(2)))


@given(_sharded(), _BUDGETS, st.booleans(), st.integers(1, 4))
def test_shards_lose_nothing_whatever_the_budget_and_the_groups(
    items: tuple[Sizes, list[int], list[int] | None], budget: Budget, shuffle: bool, world: int
) -> None:
    sizes, shards, groups = items
    order = ShardOrder(shards, window=2)

    def sampler(rank: int, world: int) -> EpochBatchSampler:
        return EpochBatchSampler(sizes, budget, shuffle, 3, rank, world, groups, order)

    counts = set()
    for epoch in range(3):
        ranks = [sampler(0, 1), *(sampler(rank, world) for rank in range(world))]
        for one in ranks:
            one.set_epoch(epoch)
        whole, *shares = [[tuple(index for _, index in batch) for batch in one] for one in ranks]
        together = [batch for share in shares for batch in share]
        assert sorted(index for batch in whole for index in batch) == list(range(len(sizes)))
        assert sorted(index for batch in set(together) for index in batch) == list(range(len(sizes)))
        _assert_within([np.array(batch) for batch in whole], np.array(sizes), budget)
        assert groups is None or all(len({groups[index] for index in batch}) == 1 for batch in whole)
        counts.add(len(whole))
        if shuffle:
            assert {len(share) for share in shares} == {len(ranks[1])}
            assert len(together) - len(whole) < world
        else:
            assert len(together) == len(set(together))
    assert len(counts) == 1


@pytest.mark.parametrize("budget", [Budget(8), Budget(1, frames=60), Budget(1, pairs=200)], ids=str)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_batches_stay_near_their_shards(budget: Budget, shuffle: bool, groups: int) -> None:
    rng = np.random.default_rng(0)
    shards = np.repeat(np.arange(24), 100)
    lengths = rng.integers(4, 10, len(shards))
    sizes = np.stack([lengths, np.full(len(shards), 3), lengths], axis=1)
    order = ShardOrder(shards.tolist(), window=2)
    batches = plan(
        sizes, budget, np.random.default_rng(1) if shuffle else None, rng.integers(0, groups, len(shards)), order
    )
    moments: dict[int, list[int]] = {}
    for moment, batch in enumerate(batches):
        for shard in shards[batch].tolist():
            moments.setdefault(shard, []).append(moment)
    # A shard is needed for about as long as the two of a window last, and a bucket at either end.
    lasting = 2 * len(batches) / len(set(shards.tolist())) + 2 * 8 * groups
    assert max(max(found) - min(found) for found in moments.values()) <= lasting


@pytest.mark.parametrize("shards", [None, ShardOrder([number // 50 for number in range(400)])], ids=["", "shards"])
@pytest.mark.parametrize("budget", [Budget(4), Budget(1, frames=24)], ids=str)
def test_groups_come_by_turns(budget: Budget, shards: ShardOrder | None) -> None:
    groups = np.arange(400) % 2
    sizes = np.array([(6, 1, 6)] * 400)
    batches = plan(sizes, budget, np.random.default_rng(0), groups, shards)
    first = [int(groups[batch[0]]) for batch in batches[: len(batches) // 4]]
    assert 0.2 < np.mean(first) < 0.8


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    sizes = [(n % 9 + 1, n % 5, n % 9 + 1) for n in range(200)]

    def order(seed: int, epochs: list[int]) -> list[tuple[int, int]]:
        sampler = EpochBatchSampler(sizes, Budget(1, frames=30), True, seed)
        found: list[tuple[int, int]] = []
        for epoch in epochs:
            sampler.set_epoch(epoch)
            found = [item for batch in sampler for item in batch]
        return found

    assert order(5, [0, 1, 2]) == order(5, [2])
    assert [index for _, index in order(5, [2])] != [index for _, index in order(5, [1])]
    assert order(5, [2]) != order(6, [2])


def test_a_budget_is_used_and_companions_change() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, 10, 2000)
    sizes = np.stack([lengths, np.full(2000, 6), lengths], axis=1)
    budget = Budget(1, frames=96)
    first, second = (plan(sizes, budget, np.random.default_rng(seed)) for seed in (0, 1))
    filled = np.array([sizes[batch, 2].sum() for batch in first])
    assert filled.mean() > 0.9 * 96
    padded = sum(len(batch) * sizes[batch, 0].max() - sizes[batch, 0].sum() for batch in first)
    assert padded < 0.03 * lengths.sum()
    pairs = [{frozenset(pair) for batch in batches for pair in pairwise(batch.tolist())} for batches in (first, second)]
    assert len(pairs[0] & pairs[1]) < 0.1 * len(pairs[0])


def test_no_process_is_left_without_a_batch_to_test() -> None:
    ranks = [EpochBatchSampler([(2, 1, 2)] * 5, Budget(1, 100), False, rank=rank, world_size=4) for rank in range(4)]
    shares = [list(rank) for rank in ranks]
    assert all(len(share) == 1 for share in shares)
    assert sorted(item for share in shares for batch in share for _, item in batch) == list(range(5))


def test_what_is_over_the_budget_is_counted() -> None:
    budget = Budget(1, frames=10, pairs=100)
    assert budget.too_large([(10, 10, 10), (11, 1, 11), (10, 11, 1), (1, 0, 0)]) == 2
    assert Budget(4).too_large([(1000, 1000, 1000)]) == 0


@pytest.mark.parametrize("budget", [Budget(3), Budget(1, frames=12), Budget(1, pairs=12)], ids=str)
def test_without_draws_batches_are_sorted(budget: Budget) -> None:
    sizes = np.array([(4, 1, 4)] * 6 + [(1, 1, 1)])
    batches = plan(sizes, budget)
    assert [batch.tolist() for batch in batches] == [[6, 0, 1], [2, 3, 4], [5]]

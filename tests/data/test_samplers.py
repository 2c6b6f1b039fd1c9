"""The order of batches, and the counts of an accumulation window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from temmed.data.batch import count_items
from temmed.data.batching import Budget
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import DecodedPixels
from temmed.data.records import Record
from temmed.data.samplers import EpochBatchSampler, WindowLoader

_SIZES = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 20)), min_size=1, max_size=60)
Sizes = list[tuple[int, int]]


def _indices(sampler: EpochBatchSampler) -> list[int]:
    return [index for batch in sampler for _, index in batch]


@given(_SIZES, st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_every_item_once_per_epoch(sizes: Sizes, size: int, shuffle: bool, epoch: int) -> None:
    sampler = EpochBatchSampler(sizes, Budget(size), shuffle, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(_indices(sampler)) == list(range(len(sizes)))
    assert all(len(batch) <= size for batch in batches)
    assert {number for batch in batches for number, _ in batch} == {epoch}


@given(_SIZES, st.integers(1, 5), st.integers(2, 4), st.booleans())
def test_ranks_share_the_work(sizes: Sizes, size: int, world: int, shuffle: bool) -> None:
    ranks = [EpochBatchSampler(sizes, Budget(size), shuffle, 3, rank, world) for rank in range(world)]
    whole = [tuple(batch) for batch in EpochBatchSampler(sizes, Budget(size), shuffle, 3)]
    shares = [[tuple(batch) for batch in rank] for rank in ranks]
    together = [batch for share in shares for batch in share]
    assert set(together) == set(whole)
    if shuffle:
        # Each process takes as many steps; so at most one batch less than the processes comes twice.
        assert len({len(share) for share in shares}) == 1
        assert len(together) - len(whole) < world
    else:
        assert len(together) == len(whole)


def test_epochs_differ_and_seeds_repeat() -> None:
    sizes = [(n, 3) for n in range(1, 41)]
    sampler = EpochBatchSampler(sizes, Budget(4), shuffle=True, seed=5)
    first = _indices(sampler)
    assert first == _indices(EpochBatchSampler(sizes, Budget(4), shuffle=True, seed=5))
    assert first != _indices(EpochBatchSampler(sizes, Budget(4), shuffle=True, seed=6))
    sampler.set_epoch(1)
    assert first != _indices(sampler)
    assert _indices(EpochBatchSampler(sizes, Budget(4), shuffle=False)) == list(range(40))


@given(_SIZES, st.integers(1, 5), st.integers(1, 3), st.integers(0, 20))
def test_the_rest_of_an_epoch_is_what_was_to_come(sizes: Sizes, size: int, world: int, done: int) -> None:
    for rank in range(world):
        whole, rest = (EpochBatchSampler(sizes, Budget(size), True, 3, rank, world) for _ in range(2))
        rest.leave_out(1, done)
        for epoch in range(3):
            whole.set_epoch(epoch)
            rest.set_epoch(epoch)
            assert list(rest) == list(whole)[done if epoch == 1 else 0 :]
            assert len(rest) == len(whole)


def test_like_sizes_go_together() -> None:
    random = np.random.default_rng(0)
    sizes = [(int(p), int(q)) for p, q in zip(random.integers(3, 10, 320), random.integers(1, 30, 320), strict=True)]

    def padded(batches: list[list[int]]) -> np.ndarray:
        """Positions, and pairs of position and question, that are computed for nothing."""
        extra = np.zeros(2, int)
        for batch in batches:
            of = np.array([sizes[i] for i in batch])
            (longest, most), count = of.max(axis=0), len(batch)
            extra += count * longest - of[:, 0].sum(), count * longest * most - of.prod(axis=1).sum()
        return extra

    def of(shuffle: bool) -> np.ndarray:
        return padded([[i for _, i in batch] for batch in EpochBatchSampler(sizes, Budget(8), shuffle)])

    at_random = padded(random.permutation(320).reshape(-1, 8).tolist())
    assert of(shuffle=True)[0] < 0.4 * at_random[0]
    assert (of(shuffle=False) < 0.3 * at_random).all()


@pytest.mark.parametrize("window", [1, 2, 3])
def test_window_counts_are_the_sum_over_the_window(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted, window: int
) -> None:
    dataset = SequenceDataset(records, pixels, len(fitted.sources))
    sampler = EpochBatchSampler(dataset.sizes, Budget(2), shuffle=True)
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=Collator())
    batches = list(WindowLoader(loader, window))
    assert len(batches) == len(loader)
    for start in range(0, len(batches), window):
        part = batches[start : start + window]
        expected = torch.stack([count_items(batch) for batch in part]).sum(dim=0)
        for batch in part:
            assert batch.window is not None
            assert torch.equal(batch.window, expected)
    assert WindowLoader(loader, window).sampler is sampler


@pytest.mark.parametrize("given", [0, 2, 4])
def test_a_loader_goes_on_from_the_place_of_another(
    records: list[Record], pixels: DecodedPixels, fitted: Fitted, given: int
) -> None:
    dataset = SequenceDataset(records, pixels, len(fitted.sources))

    def make() -> WindowLoader:
        sampler = EpochBatchSampler(dataset.sizes, Budget(2), shuffle=True)
        return WindowLoader(DataLoader(dataset, batch_sampler=sampler, collate_fn=Collator()), 2)

    former, latter = make(), make()
    batches = iter(former)
    for _ in range(given):
        next(batches)
    latter.load_state_dict(former.state_dict())
    for expected, found in zip(batches, latter, strict=True):
        assert found.sequence_ids == expected.sequence_ids
        assert torch.equal(found.window, expected.window)
    assert latter.state_dict() == former.state_dict()

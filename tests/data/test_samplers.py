"""The order of batches, and the counts of an accumulation window."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from temmed.data.batch import count_items
from temmed.data.collate import Collator
from temmed.data.dataset import SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.images import ImageSource
from temmed.data.records import Record
from temmed.data.samplers import EpochBatchSampler, WindowLoader

_LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=60)


def _indices(sampler: EpochBatchSampler) -> list[int]:
    return [index for batch in sampler for _, index in batch]


@given(_LENGTHS, st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_every_item_once_per_epoch(lengths: list[int], size: int, shuffle: bool, epoch: int) -> None:
    sampler = EpochBatchSampler(lengths, size, shuffle, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(_indices(sampler)) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in batches)
    assert {number for batch in batches for number, _ in batch} == {epoch}


@given(_LENGTHS, st.integers(1, 5), st.integers(2, 4), st.booleans())
def test_ranks_share_the_work(lengths: list[int], size: int, world: int, shuffle: bool) -> None:
    ranks = [EpochBatchSampler(lengths, size, shuffle, 3, rank, world) for rank in range(world)]
    whole = [tuple(batch) for batch in EpochBatchSampler(lengths, size, shuffle, 3)]
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
    lengths = list(range(1, 41))
    sampler = EpochBatchSampler(lengths, 4, shuffle=True, seed=5)
    first = _indices(sampler)
    assert first == _indices(EpochBatchSampler(lengths, 4, shuffle=True, seed=5))
    assert first != _indices(EpochBatchSampler(lengths, 4, shuffle=True, seed=6))
    sampler.set_epoch(1)
    assert first != _indices(sampler)
    assert _indices(EpochBatchSampler(lengths, 4, shuffle=False)) == list(range(40))


def test_like_lengths_go_together() -> None:
    lengths = torch.randint(1, 30, (320,), generator=torch.Generator().manual_seed(0)).tolist()

    def padding(sampler: EpochBatchSampler) -> int:
        return sum(max(lengths[i] for _, i in b) * len(b) - sum(lengths[i] for _, i in b) for b in sampler)

    bucketed = padding(EpochBatchSampler(lengths, 8, shuffle=True))
    plain = padding(EpochBatchSampler(lengths, 8, shuffle=False))
    assert bucketed < 0.4 * plain


@pytest.mark.parametrize("window", [1, 2, 3])
def test_window_counts_are_the_sum_over_the_window(
    records: list[Record], source: ImageSource, fitted: Fitted, window: int
) -> None:
    dataset = SequenceDataset(records, source, fitted)
    sampler = EpochBatchSampler(dataset.lengths, 2, shuffle=True)
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

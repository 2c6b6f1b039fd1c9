"""The bank of memory fusion: what is merged, and what may be read when."""

from __future__ import annotations

import pytest
import torch

from temmed.models.temporal.memory_fusion import MemoryFusion


def _run(capacity: int, length: int) -> tuple:
    torch.manual_seed(0)
    head = MemoryFusion(8, capacity).eval()
    times = torch.arange(length, dtype=torch.float).mul(10).expand(2, -1)
    there = torch.ones(2, length, dtype=torch.bool)
    memory, state = head(torch.randn(2, length, 3, 8), times, there, there)
    return memory, state


@pytest.mark.parametrize(("capacity", "length"), [(3, 3), (3, 9), (1, 5)])
def test_at_most_capacity_moments_are_readable_at_any_position(capacity: int, length: int) -> None:
    memory, _ = _run(capacity, length)
    readable = memory.readable(torch.arange(length).expand(2, -1)).sum(dim=2)
    expected = torch.arange(1, length + 1).clamp(max=capacity)
    assert (readable == expected[:, None]).all()
    # As long as nothing was merged all places have the same moments.
    assert readable.shape == (2, length, 1 if length <= capacity else 3)


def test_merging_keeps_the_mean_moment() -> None:
    capacity, length = 3, 9
    memory, state = _run(capacity, length)
    number = state["number"]
    assert number.shape == (2, capacity, 3)
    assert (number.sum(dim=1) == length).all()
    mean = (state["time"] * number).sum(dim=1) / length
    torch.testing.assert_close(mean, torch.full_like(mean, 40.0))
    assert (memory.times[memory.valid_from < length] <= 80).all()


def test_alike_neighbours_are_merged_first() -> None:
    head = MemoryFusion(8, 2).eval()
    with torch.no_grad():
        head.time.weight.zero_()
    torch.manual_seed(0)
    once, twice = torch.randn(2, 8)
    tokens = torch.stack([once, twice, twice])[None, :, None]
    there = torch.ones(1, 3, dtype=torch.bool)
    _, state = head(tokens, torch.tensor([[0.0, 10.0, 20.0]]), there, there)
    assert state["time"][0, :, 0].tolist() == [0.0, 15.0]
    assert state["number"][0, :, 0].tolist() == [1.0, 2.0]


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="capacity"):
        MemoryFusion(8, 0)


def test_missing_images_take_no_room() -> None:
    torch.manual_seed(0)
    head = MemoryFusion(8, 3).eval()
    there = torch.tensor([[True, False, False, True, False, True]])
    tokens, times = torch.randn(1, 6, 2, 8), torch.arange(6.0)[None]
    memory, state = head(tokens, times, torch.ones_like(there), there)
    assert state["filled"].tolist() == [3]
    assert state["number"][0, :, 0].tolist() == [1.0, 1.0, 1.0]
    assert memory.times[memory.valid_from < 6].unique().tolist() == [0.0, 3.0, 5.0]

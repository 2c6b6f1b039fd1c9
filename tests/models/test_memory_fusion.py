"""The bank of memory fusion: what is merged, and what may be read when."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from temmed.models.temporal.memory_fusion import MemoryFusion


@dataclass
class Slot:
    raw: Tensor
    written: Tensor
    times: list[float]


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
    assert number.shape == (2, 3, capacity)
    assert (number.sum(dim=2) == length).all()
    mean = (state["time"] * number).sum(dim=2) / length
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
    assert state["time"][0, 0].tolist() == [0.0, 15.0]
    assert state["number"][0, 0].tolist() == [1.0, 2.0]


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
    assert state["number"][0, 0].tolist() == [1.0, 1.0, 1.0]
    assert memory.times[memory.valid_from < 6].unique().tolist() == [0.0, 3.0, 5.0]


def _one_place(head: MemoryFusion, tokens: Tensor, times: Tensor, there: Tensor) -> list[list[Slot]]:
    """The bank of one place after each position, by the definition: tokens ``(T, D)``."""
    dim = tokens.shape[-1]
    bank: list[Slot] = []
    course = []
    for token, time, exists in zip(tokens, times, there, strict=True):
        if exists:
            current = token + head.time(time.reshape(1, 1)).reshape(-1)
            keys = torch.stack([head.empty, *(slot.raw for slot in bank)])
            query, gate, hidden = head.from_current(current).chunk(3)
            read = (keys @ query * dim**-0.5).softmax(dim=0) @ keys
            read_gate, read_hidden = head.from_read(read).chunk(2)
            fused = head.fuse(functional.gelu(hidden + read_hidden))
            fused = current + torch.sigmoid(gate + read_gate) * fused
            bank = [*bank, Slot(current, torch.sigmoid(head.gate(fused)) * fused, [float(time)])]
        if len(bank) > head.capacity:
            alike = [functional.cosine_similarity(a.raw, b.raw, dim=0).item() for a, b in itertools.pairwise(bank)]
            at = max(range(len(alike)), key=alike.__getitem__)
            one, two = bank[at : at + 2]
            n, m = len(one.times), len(two.times)
            raw = (n * one.raw + m * two.raw) / (n + m)
            written = (n * one.written + m * two.written) / (n + m)
            bank = [*bank[:at], Slot(raw, written, one.times + two.times), *bank[at + 2 :]]
        course.append(bank)
    return course


@pytest.mark.parametrize("capacity", [1, 4])
@pytest.mark.parametrize("length", [5, 150])
def test_equals_a_loop_over_single_images(capacity: int, length: int) -> None:
    torch.manual_seed(3)
    head = MemoryFusion(8, capacity).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    tokens, times = torch.randn(2, length, 3, 8).double(), torch.rand(2, length).double().mul(20).cumsum(dim=1)
    there = torch.rand(2, length) > 0.2
    memory, _ = head(tokens, times, torch.ones_like(there), there)
    for b, k in itertools.product(range(2), range(3)):
        course = _one_place(head, tokens[b, :, k], times[b], there[b])
        for position in [*range(min(length, 12)), length - 1]:
            readable = memory.readable(torch.full((2, 1), position))[b, 0]
            slots = readable[:, k % readable.shape[1]]
            expected = course[position]
            assert int(slots.sum()) == len(expected)
            if expected:
                moments = memory.times[b, slots][:, k % memory.times.shape[2]]
                order = moments.argsort()
                found = memory.values[b, slots][:, k][order]
                torch.testing.assert_close(found, torch.stack([slot.written for slot in expected]), rtol=0, atol=1e-9)
                mean = torch.tensor([sum(s.times) / len(s.times) for s in expected], dtype=torch.double)
                torch.testing.assert_close(moments[order], mean, rtol=0, atol=1e-9)

"""What every temporal head must keep to over many positions, in chunks of any size and in half precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor

from temmed.models.temporal.base import State, TemporalHead, TemporalMemory

B, K, D = 2, 3, 24


def make_head(config: Mapping[str, Any]) -> TemporalHead:
    torch.manual_seed(0)
    head = instantiate(config).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return head


def make_loop(length: int, batch: int = B, places: int = K) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(2)
    times = torch.rand(batch, length, generator=random).mul(100).ceil().cumsum(dim=1)
    there = torch.rand(batch, length, generator=random) > 0.25
    return torch.randn(batch, length, places, D, generator=random), times, torch.ones_like(there), there


def mean_readable(memory: TemporalMemory, position: int, of: Tensor) -> Tensor:
    """Mean over the slots that a question at a position may read, ``(B, K, ·)``; of values, or times and positions."""
    seen = memory.readable(torch.full((len(of), 1), position))[:, 0].unsqueeze(-1)
    return (of * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)


def test_half_precision_stays_near(head_config: Mapping[str, Any]) -> None:
    head, loop = make_head(head_config), make_loop(12)
    exact, _ = head(*loop)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near, _ = head(*loop)
    for position in range(12):
        one, other = (mean_readable(memory, position, memory.values.float()) for memory in (exact, near))
        torch.testing.assert_close(other, one, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_chunks_of_any_sizes_are_the_whole(head_config: Mapping[str, Any], seed: int) -> None:
    length = 14
    head, loop = make_head(head_config), make_loop(length)
    cuts = (torch.randperm(length - 1, generator=torch.Generator().manual_seed(seed))[:4] + 1).sort().values.tolist()
    whole, _ = head(*loop)
    state: State | None = None
    for begin, end in zip([0, *cuts], [*cuts, length], strict=True):
        memory, state = head(*(x[:, begin:end] for x in loop), state)
        for position in range(begin, end):
            one, other = (mean_readable(part, position, part.values) for part in (memory, whole))
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_positions_left_out_keep_their_names(head_config: Mapping[str, Any]) -> None:
    head, loop = make_head(head_config), make_loop(6)
    names = torch.tensor([10, 13, 14, 20, 31, 32]).expand(B, -1)
    plain, _ = head(*loop)
    named, _ = head(*loop, None, names)
    torch.testing.assert_close(named.values, plain.values, atol=0, rtol=0)
    for position in range(6):
        seen = named.readable(torch.full((B, 1), position))[:, 0]
        called = named.positions.masked_select(seen)
        # Slots that stand for no position may have any name that is not later.
        assert not head.addressable or (called >= 10).all()
        assert (called <= int(names[0, position])).all()


def test_the_state_keeps_its_bytes_if_bounded(head_config: Mapping[str, Any]) -> None:
    head = make_head(head_config)
    tokens, times, _, _ = make_loop(96, batch=1, places=1)
    state: State | None = None
    most = [0, 0, 0]
    with torch.no_grad():
        for position in range(96):
            _, state = head.step(tokens[:, position], times[:, position], state)
            size = sum(value.numel() * value.element_size() for value in state.values())
            most[position // 32] = max(most[position // 32], size)
    assert (most[1] == most[2]) == head.bounded


def test_two_thousand_positions_stay_finite(head_config: Mapping[str, Any]) -> None:
    if any(head_config.get(limit, 8) < 8 for limit in ("capacity", "segment", "window")):
        pytest.skip("slow, and told by the head with the sizes of its YAML")
    head = make_head(head_config)
    tokens, times, mask, there = make_loop(2048, batch=1, places=1)
    tokens.requires_grad_()
    memory, _ = head(tokens, times, mask, there)
    assert memory.values.isfinite().all()
    if memory.values.requires_grad and memory.values.numel():
        memory.values.square().mean().backward()
        assert tokens.grad is not None
        assert tokens.grad.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())

"""Heads that attend to a part of the past: against attention written out, and over many segments and windows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from temmed.models.temporal.base import State, TemporalHead, TemporalMemory
from temmed.models.temporal.memory_tokens import MemoryTokens
from temmed.models.temporal.transformer import CausalTransformer
from temmed.models.temporal.windowed_transformer import WindowedTransformer

B, T, K, D = 2, 23, 2, 8
HEADS = {
    "memory_tokens": lambda: MemoryTokens(D, layers=2, heads=2, segment=4, memory=2),
    "windowed_transformer": lambda: WindowedTransformer(D, layers=2, heads=2, window=4),
    "transformer": lambda: CausalTransformer(D, layers=2, heads=2),
}


def make(name: str) -> TemporalHead:
    torch.manual_seed(0)
    head = HEADS[name]()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return head.eval()


def loop() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions of which some do not exist, also in the middle, and others have no image."""
    torch.manual_seed(1)
    mask = torch.rand(B, T) > 0.3
    times = torch.rand(B, T).cumsum(dim=1) * 10
    return torch.randn(B, T, K, D), times, mask, mask & (torch.rand(B, T) > 0.2)


def values_at(memory: TemporalMemory, position: int) -> list[Tensor]:
    """What each sequence may read at a position, sorted, as the order of slots means nothing."""
    readable = memory.readable(torch.full((B, 1), position))[:, 0, :, 0]
    found = [values[which].flatten(1) for values, which in zip(memory.values, readable, strict=True)]
    return [x[x[:, 0].argsort()] for x in found]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("chunk", [1, 3, 9])
def test_any_chunks_give_the_same_slots_with_gaps_in_the_middle(name: str, chunk: int) -> None:
    head, inputs = make(name), loop()
    whole, _ = head(*inputs)
    state: State | None = None
    for start in range(0, T, chunk):
        memory, state = head(*(x[:, start : start + chunk] for x in inputs), state)
        for position in range(start, min(start + chunk, T)):
            for here, there in zip(values_at(memory, position), values_at(whole, position), strict=True):
                torch.testing.assert_close(here, there, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_what_does_not_exist_is_never_read(name: str) -> None:
    head, (tokens, times, mask, image_mask) = make(name), loop()
    whole, _ = head(tokens, times, mask, image_mask)
    other, _ = head(torch.where(mask[..., None, None], tokens, 100.0), times, mask, image_mask)
    for position in range(T):
        for here, there in zip(values_at(whole, position), values_at(other, position), strict=True):
            torch.testing.assert_close(here, there)


def _plain(head: WindowedTransformer | CausalTransformer, inputs: tuple[Tensor, ...], window: int) -> Tensor:
    """The layers with every score written out, ``(B, T, K, D)``."""
    tokens, times, mask, _ = inputs
    x = (tokens + head.time(times)).transpose(1, 2)
    far = torch.arange(T)[:, None] - torch.arange(T)
    allowed = ((far >= 0) & (far < window) & mask[:, None]) | (far == 0)
    for layer in head.layers:
        normed = layer.norm(x)
        parts = (layer.query(normed), *layer.key_value(normed).chunk(2, dim=-1))
        query, key, value = (y.unflatten(-1, (2, -1)).transpose(2, 3) for y in parts)
        scores = query @ key.transpose(-1, -2) / (D / 2) ** 0.5
        weight = scores.masked_fill(~allowed[:, None, None], -torch.inf).softmax(dim=-1)
        x = x + layer.out((weight @ value).transpose(2, 3).flatten(-2))
        x = x + layer.feed(x)
    return x.transpose(1, 2)


@pytest.mark.parametrize(("name", "window"), [("windowed_transformer", 4), ("transformer", T)])
@pytest.mark.parametrize("complete", [True, False])
def test_attention_is_what_it_is_when_written_out(name: str, window: int, complete: bool) -> None:
    head, inputs = make(name), loop()
    assert isinstance(head, WindowedTransformer | CausalTransformer)
    if complete:
        inputs = (*inputs[:2], torch.ones_like(inputs[2]), torch.ones_like(inputs[3]))
    memory, _ = head(*inputs)
    torch.testing.assert_close(memory.values, _plain(head, inputs, window), atol=1e-6, rtol=1e-5)


def test_a_window_ends_and_memory_tokens_do_not() -> None:
    tokens, times, mask, _ = loop()
    for name, reach in (("windowed_transformer", 2 * 3), ("memory_tokens", T)):
        tokens = tokens.detach().requires_grad_()
        memory, _ = make(name)(tokens, times, torch.ones_like(mask), torch.ones_like(mask))
        memory.values[(memory.valid_from <= T - 1).squeeze(2) & (memory.valid_to > T - 1).squeeze(2)].sum().backward()
        assert tokens.grad is not None
        # The oldest slot of the window that may be read at the end is that of window − 1 positions before.
        oldest = max(0, T - 1 - 3 - reach)
        read = tokens.grad.abs().sum(dim=(0, 2, 3)) > 0
        assert read.tolist() == [position >= oldest for position in range(T)]


@pytest.mark.parametrize("name", ["memory_tokens", "windowed_transformer"])
@pytest.mark.parametrize("length", [64, 256])
def test_slots_grow_with_the_sequence_and_what_may_be_read_does_not(name: str, length: int) -> None:
    there = torch.ones(1, length, dtype=torch.bool)
    memory, state = make(name)(torch.randn(1, length, K, D), torch.arange(length)[None] / 10, there, there)
    most = {"memory_tokens": 2 + 4, "windowed_transformer": 4}[name]
    assert memory.values.shape[1] <= length * 1.5
    assert memory.readable(torch.arange(length)[None]).sum(dim=2).max() == most
    assert all(value.numel() <= 2 * 4 * K * D for value in state.values())


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (lambda: MemoryTokens(D, segment=0), "segment"),
        (lambda: MemoryTokens(D, memory=0), "memory"),
        (lambda: WindowedTransformer(D, window=0), "window"),
    ],
)
def test_sizes_must_be_positive(head: type, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        head()

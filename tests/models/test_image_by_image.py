"""Heads that read image by image, against plain loops over single images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from temmed.models import start
from temmed.models.temporal.conv import Convolutions
from temmed.models.temporal.gru import GRU
from temmed.models.temporal.images import ImageByImage
from temmed.models.temporal.lstm import LSTM
from temmed.models.temporal.ssm import SelectiveStateSpace, scan

DIM, PLACES = 8, 2


def _read(head: ImageByImage, tokens: Tensor, times: Tensor, there: Tensor) -> Tensor:
    memory, _ = head(tokens, times, torch.ones_like(there), there)
    return memory.values


def _sequence(length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, length, PLACES, DIM, generator=random)
    return tokens, torch.rand(1, length, generator=random).mul(50).ceil().cumsum(dim=1)


def _moved(head: ImageByImage) -> ImageByImage:
    """A head whose layers do not pass on what they get, as they do at the start."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return head.eval()


HEADS = [Convolutions, GRU, LSTM, SelectiveStateSpace]


@pytest.mark.parametrize("make", HEADS)
def test_a_missing_image_is_as_if_its_position_were_not_there(make: type[ImageByImage]) -> None:
    head = _moved(make(DIM))
    tokens, times = _sequence(9)
    there = torch.tensor([[True, True, False, False, True, True, False, True, False]])
    values = _read(head, tokens, times, there)
    seen = there[0]
    alone = _read(head, tokens[:, seen], times[:, seen], there[:, seen])
    torch.testing.assert_close(values[:, seen], alone, atol=1e-5, rtol=1e-5)
    # Where there is none, what was known after the latest one.
    torch.testing.assert_close(values[:, [2, 3, 6, 8]], values[:, [1, 1, 5, 7]], atol=0, rtol=0)


@pytest.mark.parametrize("make", HEADS)
def test_time_since_the_image_before_enters(make: type[ImageByImage]) -> None:
    head = _moved(make(DIM))
    with torch.no_grad():
        head.time.weight.zero_()
    tokens, times = _sequence(4)
    there = torch.ones(1, 4, dtype=torch.bool)
    values = _read(head, tokens, times, there)
    # Time since the start is switched off: to begin later changes nothing, to wait longer does.
    torch.testing.assert_close(_read(head, tokens, times + 64, there), values, atol=1e-4, rtol=1e-4)
    later = times + torch.tensor([0.0, 0.0, 300.0, 300.0])
    waited = _read(head, tokens, later, there)
    torch.testing.assert_close(waited[:, :2], values[:, :2], atol=1e-5, rtol=1e-5)
    assert (waited[:, 2] - values[:, 2]).abs().max() > 1e-3


@pytest.mark.parametrize("make", HEADS)
def test_times_against_their_order_stay_finite(make: type[ImageByImage]) -> None:
    tokens, times = _sequence(6)
    values = _read(_moved(make(DIM)), tokens, times.flip(1) * 1000, torch.ones(1, 6, dtype=torch.bool))
    assert values.isfinite().all()


def test_convolutions_see_as_far_back_as_they_say() -> None:
    head = _moved(Convolutions(DIM, layers=2, kernel=3))
    tokens, times = _sequence(12)
    tokens.requires_grad_()
    _read(head, tokens, times, torch.ones(1, 12, dtype=torch.bool))[:, 11].sum().backward()
    assert tokens.grad is not None
    reached = tokens.grad.abs().sum(dim=(0, 2, 3)) > 0
    reach = 1 + (3 - 1) * (2**2 - 1)
    assert reached.tolist() == [False] * (12 - reach) + [True] * reach


def test_units_of_gru_and_lstm_start_with_memories_of_unlike_length() -> None:
    """With no input, a unit of the GRU keeps z of its state and one of the LSTM f of its cell."""
    horizon = 31.0
    expected = 1 - 1 / (1 + torch.logspace(0, math.log10(horizon), DIM))
    for head, part in ((GRU(DIM, horizon=horizon), 1), (LSTM(DIM, horizon=horizon), 1)):
        network = head.network
        assert isinstance(network, nn.RNNBase)
        kept = network.bias_hh_l0.unflatten(0, (-1, DIM))[part].sigmoid()
        torch.testing.assert_close(kept, expected)
    written = head.network.bias_hh_l0.unflatten(0, (-1, DIM))[0].sigmoid()
    torch.testing.assert_close(written, 1 - expected)


@pytest.mark.parametrize("make", [GRU, LSTM])
def test_more_units_than_the_tokens_have_numbers(make: type[GRU | LSTM]) -> None:
    """What is carried grows, streaming gives what the whole does, and the tokens keep their size."""
    units = 5 * DIM
    head = _moved(make(DIM, layers=2, hidden=units))
    tokens, times = _sequence(6)
    there = torch.ones(1, 6, dtype=torch.bool)
    values = _read(head, tokens, times, there)
    assert values.shape == (1, 6, PLACES, DIM)
    state = None
    for position in range(6):
        memory, state = head.step(tokens[:, position], times[:, position], state)
        torch.testing.assert_close(memory.values[:, -1], values[:, position], atol=1e-5, rtol=1e-5)
    assert state is not None
    assert state["hidden"].shape == (1, PLACES, 2, units)


def test_channels_of_the_state_space_start_with_memories_of_unlike_length() -> None:
    layer = SelectiveStateSpace(DIM, horizon=31.0).layers[0]
    steps = nn.functional.softplus(layer.enter.bias[:DIM])
    torch.testing.assert_close(steps[[0, -1]], torch.tensor([1.0, 1 / 31]))


def _scan_one_by_one(decay: Tensor, value: Tensor, key: Tensor, query: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    read = []
    for d, v, k, q in zip(*(x.flatten(1, 2).unbind(1) for x in (decay, value, key, query)), strict=True):
        state = state * (-d).exp().unsqueeze(1) + k.unsqueeze(2) * v.unsqueeze(1)
        read.append((q.unsqueeze(2) * state).sum(dim=1))
    return torch.stack(read, dim=1).unflatten(1, decay.shape[1:3]), state


@pytest.mark.parametrize("most", [0.05, 5.0])
def test_scan_in_blocks_is_the_recurrence(most: float) -> None:
    """In single precision, with decays from hardly any to the strongest that is allowed at every image."""
    random = torch.Generator().manual_seed(0)
    rows, blocks, block, size = 2, 3, 16, 4
    decay = most * torch.rand(rows, blocks, block, DIM, generator=random).sqrt()
    decay[0, 1] = most
    value, key, query = (torch.randn(rows, blocks, block, n, generator=random) for n in (DIM, size, size))
    inputs = [x.requires_grad_() for x in (decay, value, key, query, torch.randn(rows, size, DIM, generator=random))]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    found, expected = scan(*inputs), _scan_one_by_one(*exact)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-4, rtol=1e-4)
    sum(x.square().sum() for x in found).backward()
    sum(x.square().sum() for x in expected).backward()
    for one, other in zip(inputs, exact, strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, atol=2e-3, rtol=2e-3)


def test_the_state_of_the_state_space_stays_bounded() -> None:
    """It is a mean of what was written: values under keys of bounded size, as the tokens are normalised first."""
    head = SelectiveStateSpace(DIM, layers=1)
    start.at_zero(head.time, head.gap)
    tokens = torch.randn(1, 1, PLACES, DIM).expand(1, 2000, PLACES, DIM)
    there = torch.ones(1, 2000, dtype=torch.bool)
    _, state = head(tokens, torch.zeros(1, 2000), there, there)
    layer = head.layers[0]
    _, _, value, key, _ = layer.enter(layer.norm(tokens[:, 0])).split(layer.split, dim=-1)
    limit = key.unsqueeze(-1) * value.unsqueeze(-2)
    assert (state["state_0"].abs() <= limit.abs() + 1e-4).all()
    torch.testing.assert_close(state["state_0"], limit, atol=1e-3, rtol=1e-2)

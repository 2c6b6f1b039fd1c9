"""The recurrence with a backward pass of its own against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from temmed.models.temporal.gru_scan import scan

DIM, UNITS, ROWS = 5, 7, 3


def _setting(length: int, layers: int) -> tuple[nn.GRU, Tensor, Tensor]:
    torch.manual_seed(0)
    network = nn.GRU(DIM, UNITS, layers).double()
    rows = torch.randn(length, ROWS, DIM, dtype=torch.double, requires_grad=True)
    return network, rows, torch.randn(layers, ROWS, UNITS, dtype=torch.double, requires_grad=True)


@pytest.mark.parametrize(("length", "layers"), [(1, 1), (6, 2), (256, 1), (700, 2)])
def test_states_and_gradients_are_those_of_torch(length: int, layers: int) -> None:
    """Also where a sequence is longer than what is allocated at once."""
    network, rows, state = _setting(length, layers)
    there = torch.ones(length, ROWS, dtype=torch.bool)
    found, expected = scan(network, rows, there, state), network(rows, state)
    weights = [torch.randn_like(x) for x in expected]
    learned = [rows, state, *network.parameters()]
    gradients = [
        torch.autograd.grad(sum((x * w).sum() for x, w in zip(pair, weights, strict=True)), learned)
        for pair in (found, expected)
    ]
    for one, other in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


def test_rows_that_end_are_those_of_packed_sequences() -> None:
    network, rows, state = _setting(300, 2)
    lengths = torch.tensor([300, 1, 123])
    there = torch.arange(300).unsqueeze(1) < lengths
    packed, last = network(pack_padded_sequence(rows, lengths, enforce_sorted=False), state)
    expected, _ = pad_packed_sequence(packed, total_length=300)
    found, after = scan(network, rows, there, state)
    learned = [rows, state, *network.parameters()]
    gradients = [
        torch.autograd.grad(outputs.square()[there].sum() + final.square().sum(), learned)
        for outputs, final in ((found, after), (expected, last))
    ]
    torch.testing.assert_close(found[there], expected[there])
    torch.testing.assert_close(after, last)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
    # To the last bit: what is carried does not depend on how far others go on.
    torch.testing.assert_close(found[-1], after[-1], atol=0, rtol=0)
    torch.testing.assert_close(found[5, 1], found[0, 1], atol=0, rtol=0)


def test_gradients_are_those_of_differences() -> None:
    network, rows, state = _setting(4, 1)
    there = torch.tensor([[True, True, True], [True, False, True], [True, False, True], [True, False, False]])
    assert torch.autograd.gradcheck(lambda x, h: scan(network, x, there, h), (rows, state))

"""Continuous encodings of times, positions and places."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from temmed.data.quantities import POSITION
from temmed.data.tokenizer import PER_UNIT, SHIFT, ZERO

#: Periods of the time encoding in the unit of the time, from a fiftieth (a cine frame in seconds) to decades (days).
TIME_PERIODS = (0.02, 20000.0)
POSITION_PERIODS = (2.5, 20000.0)
TIME_SIZE = 80
POSITION_SIZE = 32
MOMENT_SIZE = TIME_SIZE + POSITION_SIZE


def sinusoids(values: Tensor, periods: tuple[float, float], size: int) -> Tensor:
    """Sines and cosines at geometrically spaced periods.

    The inner product of two encodings depends on the difference of the values alone and is largest at 0, so an
    irregular gap needs no special case (Vaswani et al. 2017; for continuous time, Kazemi et al. 2019, Time2Vec, with
    the frequencies fixed here).

    Args:
        values: any shape, in the unit of the periods.
        periods: shortest and longest.
        size: of the encoding, even.

    Returns:
        ``(*values.shape, size)``, each in −1…1, in the default number type.
    """
    count = size // 2
    exponent = torch.linspace(0, 1, count, device=values.device, dtype=torch.float64)
    angular = 2 * math.pi / (periods[0] * (periods[1] / periods[0]) ** exponent)
    phase = values.to(torch.float64).unsqueeze(-1) * angular
    return torch.cat([phase.sin(), phase.cos()], dim=-1).to(torch.get_default_dtype())


def encode_time(times: Tensor) -> Tensor:
    """Encoding of elapsed times (days, seconds or steps): ``(*times.shape, TIME_SIZE)``."""
    return sinusoids(times, TIME_PERIODS, TIME_SIZE)


class ElapsedTime(nn.Linear):
    """What elapsed times add to tokens: a learned projection of `encode_time`, small at the start.

    Args:
        dim: size of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(TIME_SIZE, dim, bias=False)

    def reset_parameters(self) -> None:
        """Start with little, so that tokens first count by what they show."""
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, times: Tensor) -> Tensor:
        """``(B, T) → (B, T, 1, dim)``, to be added to tokens ``(B, T, K, dim)``."""
        return super().forward(encode_time(times).to(self.weight.dtype)).unsqueeze(2)


def encode_position(positions: Tensor) -> Tensor:
    """Encoding of positions: ``(*positions.shape, POSITION_SIZE)``."""
    return sinusoids(positions, POSITION_PERIODS, POSITION_SIZE)


def read_ids(ids: Tensor) -> tuple[Tensor, Tensor]:
    """What ids of `temmed.data.tokenizer.Tokenizer` stand for.

    Returns:
        The kind of each, as in `temmed.data.quantities`; and its amount, float64: in the unit of the kind, for a word
        its id.
    """
    kind = ids >> SHIFT
    steps = (ids - (kind << SHIFT) - (kind > 0) * ZERO).double()
    return kind, torch.where(kind > POSITION, steps / PER_UNIT, steps)


def encode_named(named: Tensor) -> Tensor:
    """Encodings of named moments.

    Args:
        named: ``(..., 2)``: time and position, of which at least one is NaN.

    Returns:
        ``(..., MOMENT_SIZE)``: time, then position, zeros where it is NaN.
    """
    there = named.isfinite().unsqueeze(-1)
    time, position = named.nan_to_num().unbind(dim=-1)
    return torch.cat([encode_time(time) * there[..., 0, :], encode_position(position) * there[..., 1, :]], dim=-1)

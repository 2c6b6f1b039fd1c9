"""Continuous encodings of times, positions and places."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from temmed.data.tokenizer import NUMBER_BASE, POSITION_BASE, TIME_BASE

#: Periods of the time encoding in the unit of the time, from a fiftieth (a cine frame in seconds) to decades (days).
TIME_PERIODS = (0.02, 20000.0)
POSITION_PERIODS = (2.5, 20000.0)
TIME_SIZE = 80
POSITION_SIZE = 32
MOMENT_SIZE = TIME_SIZE + POSITION_SIZE
#: Kinds of tokens.
WORD, POSITION, ELAPSED, NUMBER = range(4)


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
    """What ids of `temmed.data.tokenizer` stand for.

    Returns:
        The kind of each: `WORD`, `POSITION`, `ELAPSED` or `NUMBER`; and its amount, float64: the position, the time in
        days or seconds, or the number; for a word its id.
    """
    kind = (ids >= POSITION_BASE).long() + (ids >= TIME_BASE) + (ids >= NUMBER_BASE)
    base = torch.tensor([0, POSITION_BASE, TIME_BASE, NUMBER_BASE], device=ids.device)
    return kind, (ids - base[kind]).double() / torch.where(kind >= ELAPSED, 1000, 1)


def encode_named(ids: Tensor, most: int) -> Tensor:
    """Encodings of the time points and elapsed times that texts name, in the order of naming.

    Args:
        ids: of `temmed.data.tokenizer`, ``(..., L)``.
        most: at most so many of each text.

    Returns:
        ``(..., most, MOMENT_SIZE)``: time, then position, of which one is zero; zeros where nothing more is named.
    """
    kind, amount = read_ids(ids)
    is_moment = (kind == POSITION) | (kind == ELAPSED)
    number = is_moment.cumsum(dim=-1)
    moments = []
    for n in range(1, most + 1):
        here = is_moment & (number == n)
        value = (amount * here).sum(dim=-1)
        elapsed, position = ((here & (kind == wanted)).any(dim=-1, keepdim=True) for wanted in (ELAPSED, POSITION))
        moments.append(torch.cat([encode_time(value) * elapsed, encode_position(value) * position], dim=-1))
    return torch.stack(moments, dim=-2)

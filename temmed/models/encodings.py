"""Continuous encodings of times, positions and places."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from temmed.data.tokenizer import NUMBER_BASE, POSITION_BASE, TIME_BASE

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
        ``(*values.shape, size)``, each in −1…1.
    """
    count = size // 2
    exponent = torch.linspace(0, 1, count, device=values.device, dtype=torch.float64)
    angular = 2 * math.pi / (periods[0] * (periods[1] / periods[0]) ** exponent)
    phase = values.to(torch.float64).unsqueeze(-1) * angular
    return torch.cat([phase.sin(), phase.cos()], dim=-1).to(torch.float32)


def encode_time(times: Tensor) -> Tensor:
    """Encoding of elapsed times (days, seconds or steps): ``(*times.shape, TIME_SIZE)``."""
    return sinusoids(times, TIME_PERIODS, TIME_SIZE)


def encode_position(positions: Tensor) -> Tensor:
    """Encoding of positions: ``(*positions.shape, POSITION_SIZE)``."""
    return sinusoids(positions, POSITION_PERIODS, POSITION_SIZE)


def encode_named(ids: Tensor, most: int) -> Tensor:
    """Encodings of the time points and elapsed times that texts name, in the order of naming.

    Args:
        ids: of `temmed.data.tokenizer`, ``(..., L)``.
        most: at most so many of each text.

    Returns:
        ``(..., most, MOMENT_SIZE)``: time, then position, of which one is zero; zeros where nothing more is named.
    """
    is_position = (ids >= POSITION_BASE) & (ids < TIME_BASE)
    is_time = (ids >= TIME_BASE) & (ids < NUMBER_BASE)
    number = (is_position | is_time).cumsum(dim=-1)
    moments = []
    for n in range(1, most + 1):
        position, time = is_position & (number == n), is_time & (number == n)
        which = ((ids - POSITION_BASE) * position).sum(dim=-1)
        when = ((ids - TIME_BASE) * time).sum(dim=-1).double() / 1000
        parts = (
            encode_time(when) * time.any(-1, keepdim=True),
            encode_position(which) * position.any(-1, keepdim=True),
        )
        moments.append(torch.cat(parts, dim=-1))
    return torch.stack(moments, dim=-2)

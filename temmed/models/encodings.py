"""Continuous encodings of times, positions and places."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Periods of the time encoding in the unit of the time, from a fiftieth (a cine frame in seconds) to decades (days).
TIME_PERIODS = (0.02, 20000.0)
POSITION_PERIODS = (2.5, 20000.0)
TIME_SIZE = 80
POSITION_SIZE = 32


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

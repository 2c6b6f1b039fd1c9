"""A learned temperature of similarities, as in CLIP (Radford et al. 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Temperature(nn.Module):
    """Divides cosine similarities by a learned temperature. As in CLIP its logarithm is learned and it has a bound.

    Args:
        start: to start from.
        least: it never falls below; where it would, nothing is learned of it.
    """

    def __init__(self, start: float, least: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(start)))
        self.most = -math.log(least)

    def forward(self, x: Tensor) -> Tensor:
        """Similarities, or the vectors of length 1 on one side of them, of any shape."""
        return self.log_scale.clamp(max=self.most).exp() * x

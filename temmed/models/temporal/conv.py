"""Causal dilated convolutions over the images of each place, after TCN (Bai, Kolter & Koltun 2018).

What differs: one convolution in a layer instead of two, with layer normalisation before it instead of normalised
weights; the time since the image before is an input, because a kernel knows images and not days; and the images that
the kernels still need are carried from chunk to chunk. What lies further back than ``1 + (kernel − 1)(2^layers − 1)``
images is not seen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.models import start
from temmed.models.temporal.base import State
from temmed.models.temporal.images import ImageByImage, Images


class _Layer(nn.Module):
    def __init__(self, dim: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Conv2d(dim, dim, (kernel, 1), dilation=(dilation, 1))
        self.out = nn.Linear(dim, dim)
        # A layer starts by passing its tokens on as they are.
        start.at_zero(self.out)

    def forward(self, x: Tensor, past: Tensor | None, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Of x ``(B, L, K, D)`` and past ``(B, reach, K, D)``; returns x and the past after ``lengths`` images."""
        seen = self.norm(x)
        seen = functional.pad(seen, (0, 0, 0, 0, self.reach, 0)) if past is None else torch.cat([past, seen], dim=1)
        found = self.conv(seen.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        last = lengths.unsqueeze(1) + torch.arange(self.reach, device=x.device)
        rows = torch.arange(len(x), device=x.device).unsqueeze(1)
        return x + self.out(functional.gelu(found)), seen[rows, last]


class Convolutions(ImageByImage):
    """Convolutions with a step of 1, 2, 4, … images from layer to layer.

    Args:
        dim: size of the tokens.
        layers: number of layers.
        kernel: images that a layer looks at.
    """

    def __init__(self, dim: int, layers: int = 3, kernel: int = 3) -> None:
        super().__init__(dim)
        self.layers = nn.ModuleList(_Layer(dim, kernel, 2**n) for n in range(layers))

    def run(self, images: Images, state: State) -> tuple[Tensor, State]:
        """See `ImageByImage.run`."""
        x, carried = images.tokens, State()
        for number, layer in enumerate(self.layers):
            name = f"past_{number}"
            x, carried[name] = layer(x, state.get(name), images.lengths)
        return x, carried

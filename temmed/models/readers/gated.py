"""Gated cross-attention (Flamingo, Alayrac et al. 2022): images enter the question through gates that start at zero.

What differs: the layers follow each other without layers of a language model in between; the asked image and the
memory have a softmax each; and the memory is addressed by moment, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from temmed.models.readers.attention import Attend, DotProduct, each_image
from temmed.models.readers.base import Asked, Reader, Shown


class _Layer(nn.Module):
    """Attention and a network of two layers, each added through the hyperbolic tangent of a learned gate."""

    def __init__(self, dim: int, heads: int, head_dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attend = Attend(dim, heads, head_dim, DotProduct(dim, heads, head_dim))
        self.join = nn.Linear(2 * heads * head_dim, dim)
        self.network = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor, local: Tensor, remembered: Tensor) -> Tensor:
        """Add to questions ``x (N, Q, D)`` what was read of the asked image and of the memory."""
        seen, thought = self.gates.tanh()
        x = x + seen * self.join(torch.cat([local, remembered], dim=-1))
        return x + thought * self.network(x)


class Gated(Reader):
    """Reads in several layers; at the start the answer features are those of the question alone.

    Maps and pointers are those of the last layer.

    Args:
        dim: size of tokens and questions.
        places: K, tokens per image; any number is read.
        heads: number of read heads, at least 3.
        head_dim: size of each.
        hidden: size of the network of each layer.
        dropout: in that network.
        layers: number of layers.
    """

    def __init__(
        self,
        dim: int,
        places: int,
        heads: int = 6,
        head_dim: int = 32,
        hidden: int = 256,
        dropout: float = 0.0,
        layers: int = 2,
    ) -> None:
        super().__init__(dim, places, heads)
        self.size = dim
        stack = [_Layer(dim, heads, head_dim, hidden, dropout) for _ in range(layers)]
        self.layers = cast("Iterable[_Layer]", nn.ModuleList(stack))
        self.out = nn.LayerNorm(dim)

    def look(self, prompts: Tensor, images: Tensor) -> Tensor:
        """See `Reader.look`."""
        x, tokens = each_image(prompts, images)
        for layer in self.layers:
            local, _ = layer.attend.image(layer.norm(x), tokens)
            x = layer(x, local, torch.zeros_like(local))
        return self.out(x).unflatten(0, images.shape[:2]).transpose(1, 2)

    def find(self, asked: Asked, shown: Shown) -> tuple[Tensor, Tensor, Tensor]:
        """See `Reader.find`."""
        tokens, x = self.norm(shown.memory.values), asked.prompts
        for layer in self.layers:
            asking = replace(asked, prompts=layer.norm(x))
            local, where = layer.attend.asked(asking, shown)
            remembered, attention = layer.attend.memory(asking, shown.memory, tokens)
            if asked.reports is not None:
                written, _ = layer.attend.memory(asking, asked.reports, self.norm(asked.reports.values))
                remembered = remembered + written
            x = layer(x, local, remembered)
        return self.out(x), where, attention

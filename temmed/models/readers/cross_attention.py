"""Cross-attention from the question to image tokens (Vaswani et al. 2017).

What differs: tokens of the memory are addressed by their moment, too, and moments that the question names are taken
over as they are; and the asked image has a softmax of its own, so that it cannot be drowned by a long memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from temmed.models.readers.attention import Attend, DotProduct, each_image
from temmed.models.readers.base import Asked, Reader, Shown


class CrossAttention(Reader):
    """Reads by attention of several heads over the places of the asked image, and over those of the memory.

    Args:
        dim: size of tokens and questions.
        places: K, tokens per image; any number is read.
        heads: number of read heads, at least 3.
        head_dim: size of each.
        hidden: size of the network behind them.
        dropout: in that network.
        score: what a question thinks of a token by its content; scaled dot products by default.
    """

    def __init__(
        self,
        dim: int,
        places: int,
        heads: int = 6,
        head_dim: int = 32,
        hidden: int = 256,
        dropout: float = 0.0,
        score: nn.Module | None = None,
    ) -> None:
        super().__init__(dim, places, heads)
        self.size = heads * head_dim
        self.attend = Attend(dim, heads, head_dim, score or DotProduct(dim, heads, head_dim))
        self.mix = nn.Sequential(
            nn.Linear(dim + 2 * self.size, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.out = nn.LayerNorm(dim)

    def look(self, prompts: Tensor, images: Tensor) -> Tensor:
        """See `Reader.look`."""
        read, _ = self.attend.image(*each_image(prompts, images))
        return read.unflatten(0, images.shape[:2]).transpose(1, 2)

    def find(self, asked: Asked, shown: Shown) -> tuple[Tensor, Tensor, Tensor]:
        """See `Reader.find`."""
        local, where = self.attend.asked(asked, shown)
        remembered, attention = self.attend.memory(asked, shown.memory, self.norm(shown.memory.values))
        if asked.reports is not None:
            written, _ = self.attend.memory(asked, asked.reports, self.norm(asked.reports.values))
            remembered = remembered + written
        return (
            self.out(asked.prompts + self.mix(torch.cat([asked.prompts, local, remembered], dim=-1))),
            where,
            attention,
        )

"""Cross-attention from the question to image tokens (Vaswani et al. 2017).

What differs: tokens of the memory are addressed by their moment, too, and moments that the question names are taken
over as they are; and the asked image has a softmax of its own, so that it cannot be drowned by a long memory.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from temmed.models.readers.attention import Attend, DotProduct, each_image
from temmed.models.readers.base import Reader, Reading, names_of
from temmed.models.temporal.base import TemporalMemory


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

    def forward(
        self,
        prompts: Tensor,
        images: Tensor,
        asked_at: Tensor,
        memory: TemporalMemory,
        reports: TemporalMemory | None = None,
        named: Tensor | None = None,
        addressable: bool = True,
        positions: Tensor | None = None,
        explain: bool = False,
        start: int = 0,
    ) -> Reading:
        """See `Reader.forward`."""
        positions = names_of(positions, images)
        when = (named, positions.gather(1, asked_at))
        local, where = self.attend.asked(prompts, images, asked_at - start)
        remembered, attention = self.attend.memory(prompts, self.norm(memory.values), asked_at, memory, *when)
        if reports is not None:
            written, _ = self.attend.memory(prompts, self.norm(reports.values), asked_at, reports, *when)
            remembered = remembered + written
        features = self.out(prompts + self.mix(torch.cat([prompts, local, remembered], dim=-1)))
        return self.tell(features, where, attention, memory, positions, addressable, explain)

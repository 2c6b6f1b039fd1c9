"""Reading by place and by moment: fixed places with weights of either sign, then attention over time at each of them.

The reasons, with what was measured, are in docs/decisions/reading-by-place-and-moment.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from temmed.models.readers.attention import DotProduct, read_values, values
from temmed.models.readers.base import Asked, Reader, Shown
from temmed.models.readers.moments import MomentQuery, address, hide
from temmed.models.temporal.base import TemporalMemory


class PlaceAndMoment(Reader):
    """Reads the asked image and the memory for a question, in two steps that multiply: where, and when.

    Where: each place of the image grid has a learned key; its product with the question is the weight of that place,
    of either sign and not normalised, so that sums and differences over places (areas, contrasts with the surroundings)
    can be read. The asked image and the memory share these weights: a place learned from one is found in the other.

    When: at each place, attention over the slots of the memory, which are addressed by content, by time, by position
    and by distance to the asked position; the question makes the query for each. Moments that the question names are
    taken over as they are, with a gate for each head.

    Its maps are the sizes of the weights of the places, averaged over the heads: for a question of the model, and not
    for what this image shows there.

    Args:
        dim: size of tokens and questions.
        places: K, tokens per image.
        heads: number of read heads, at least 3.
        head_dim: size of each.
        hidden: size of the network behind them.
        dropout: in that network.
    """

    def __init__(
        self, dim: int, places: int, heads: int = 6, head_dim: int = 32, hidden: int = 256, dropout: float = 0.0
    ) -> None:
        super().__init__(dim, places, heads)
        self.size = heads * head_dim
        self.value = nn.Linear(dim, heads * head_dim)
        self.place_query = nn.Linear(dim, heads * head_dim)
        # Large, so that what changes in an image is heard from the first step, over what cannot be learned yet.
        self.place_key = nn.Parameter(torch.randn(heads, head_dim, places) * 4 * (head_dim * places) ** -0.5)
        self.content = DotProduct(dim, heads, head_dim)
        self.moments = MomentQuery(dim, heads)
        self.mix = nn.Sequential(
            nn.Linear(dim + 2 * heads * head_dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, dim),
        )
        self.out = nn.LayerNorm(dim)

    def places(self, prompts: Tensor) -> Tensor:
        """Weight of each place for each question: ``(B, Q, D) → (B, Q, heads, K)``."""
        return torch.einsum("bqhd,hdk->bqhk", self.split(self.place_query(prompts)), self.place_key)

    def read_image(self, places: Tensor, images: Tensor) -> Tensor:
        """Read one image for each question.

        Args:
            places: ``(B, Q, heads, K)``, from `places`.
            images: tokens after `norm`, ``(B, Q, K, D)``.

        Returns:
            ``(B, Q, heads · head_dim)``.
        """
        return values(self.value, torch.matmul(places, images), places.sum(dim=-1))

    def read_images(self, places: Tensor, images: Tensor) -> Tensor:
        """Read every image ``(B, T, K, D)`` for every question: ``(B, Q, T, heads · head_dim)``."""
        seen = torch.matmul(places.flatten(1, 2).unsqueeze(1), images).unflatten(2, places.shape[1:3]).transpose(1, 2)
        return values(self.value, seen, places.sum(dim=-1).unsqueeze(2))

    def attend(self, asked: Asked, memory: TemporalMemory, tokens: Tensor) -> Tensor:
        """Attention over the slots of each place.

        Args:
            asked: what is asked.
            memory: S slots at each of K places.
            tokens: its values after `norm`, ``(B, S, K, D)``.

        Returns:
            ``(B, Q, heads, S, K)``, which sums to 1 over the slots, or to 0 where none is readable.
        """
        content = self.content(asked.prompts, tokens.flatten(1, 2)).unflatten(3, tokens.shape[1:3])
        readable = memory.readable(asked.asked_at)
        attention = (content + (address(self.moments(asked), memory) + hide(readable))).softmax(dim=3)
        return attention * readable.any(dim=2, keepdim=True).unsqueeze(2)

    def read_memory(self, asked: Asked, places: Tensor, memory: TemporalMemory) -> tuple[Tensor, Tensor]:
        """Read a memory at the places of a question.

        Returns:
            ``(B, Q, heads · head_dim)``, zeros where nothing is readable; and the attention over the slots of each
            place, ``(B, Q, heads, S, K)``.
        """
        tokens = self.norm(memory.values)
        attention = self.attend(asked, memory, tokens)
        weights = (attention * places.unsqueeze(3)).flatten(3)
        return read_values(self.value, weights, tokens.flatten(1, 2)), attention

    def look(self, prompts: Tensor, images: Tensor) -> Tensor:
        """See `Reader.look`."""
        return self.read_images(self.places(prompts), images)

    def find(self, asked: Asked, shown: Shown) -> tuple[Tensor, Tensor, Tensor]:
        """See `Reader.find`."""
        places = self.places(asked.prompts)
        local = self.read_image(places, shown.images_of(asked))
        remembered, attention = self.read_memory(asked, places, shown.memory)
        if asked.reports is not None:
            remembered = remembered + self.read_memory(asked, torch.ones_like(places[..., :1]), asked.reports)[0]
        features = self.out(asked.prompts + self.mix(torch.cat([asked.prompts, local, remembered], dim=-1)))
        # A place counts by the size of its weight, which is not trained by this.
        share = places.detach().abs()
        return features, share / share.sum(dim=-1, keepdim=True), attention

    def remembered(self, attention: Tensor, where: Tensor) -> Tensor:
        """See `Reader.remembered`; attention is a share of each place by itself."""
        return attention * where.unsqueeze(3)

"""Reading by place and by moment: fixed places with weights of either sign, then attention over time at each of them.

The reasons, with what was measured, are in docs/decisions/reading-by-place-and-moment.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from temmed.models.readers.base import Reader, Reading, names_of
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
        self.head_dim, self.size = head_dim, heads * head_dim
        self.value = nn.Linear(dim, heads * head_dim)
        self.place_query = nn.Linear(dim, heads * head_dim)
        # Large, so that what changes in an image is heard from the first step, over what cannot be learned yet.
        self.place_key = nn.Parameter(torch.randn(heads, head_dim, places) * 4 * (head_dim * places) ** -0.5)
        self.query = nn.Linear(dim, heads * head_dim)
        self.key = nn.Linear(dim, heads * head_dim, bias=False)
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

    def _per_head(self, x: Tensor, layer: nn.Linear, direction: str) -> Tensor:
        """Apply a layer's rows of each head to ``(..., heads, size)``, as it is or transposed."""
        return torch.einsum(direction, x, layer.weight.unflatten(0, (self.heads, -1)))

    def _values(self, seen: Tensor, total: Tensor) -> Tensor:
        """What is read: the value layer after the weighted sum of tokens, which is less work than before it.

        Args:
            seen: weighted sums of tokens, ``(..., heads, D)``.
            total: the sums of their weights, ``(..., heads)``.

        Returns:
            ``(..., heads · head_dim)``.
        """
        read = self._per_head(seen, self.value, "...he,hde->...hd")
        return (read + total.unsqueeze(-1) * self.split(self.value.bias)).flatten(-2)

    def read_images(self, places: Tensor, images: Tensor, asked_at: Tensor | None = None) -> Tensor:
        """Read images without memory.

        Args:
            places: ``(B, Q, heads, K)``, from `places`.
            images: tokens after `norm`, ``(B, T, K, D)``.
            asked_at: ``(B, Q)`` long, the position to read for each question; ``None`` reads every position.

        Returns:
            ``(B, Q, heads · head_dim)``, or ``(B, Q, T, heads · head_dim)`` of every position.
        """
        total = places.sum(dim=-1)
        if asked_at is not None:
            here = asked_at[:, :, None, None].expand(-1, -1, *images.shape[2:])
            return self._values(torch.matmul(places, images.gather(1, here)), total)
        seen = torch.matmul(places.flatten(1, 2).unsqueeze(1), images).unflatten(2, places.shape[1:3]).transpose(1, 2)
        return self._values(seen, total.unsqueeze(2))

    def attend(
        self,
        prompts: Tensor,
        asked_at: Tensor,
        memory: TemporalMemory,
        images: Tensor,
        named: Tensor | None = None,
        called: Tensor | None = None,
    ) -> Tensor:
        """Attention over the slots of each place.

        Args:
            prompts: ``(B, Q, D)``.
            asked_at: ``(B, Q)`` long.
            memory: S slots at each of K places.
            images: its values after `norm`, ``(B, S, K, D)``.
            named: the moments that each question names, ``(B, Q, NAMED, MOMENT_SIZE)``; from `encode_named`.
            called: what ``asked_at`` is called where positions were left out, ``(B, Q)``; itself by default.

        Returns:
            ``(B, Q, heads, S, K)``, which sums to 1 over the slots, or to 0 where none is readable.
        """
        questions = prompts.shape[1]
        query = self._per_head(self.split(self.query(prompts)) * self.head_dim**-0.5, self.key, "bqhd,hde->bqhe")
        content = torch.matmul(query.flatten(1, 2), images.flatten(1, 2).transpose(1, 2))
        content = content.unflatten(1, (questions, self.heads)).unflatten(3, images.shape[1:3])
        moment = address(self.moments(prompts, asked_at if called is None else called, named), memory)
        readable = memory.readable(asked_at)
        attention = (content + (moment + hide(readable))).softmax(dim=3)
        return attention * readable.any(dim=2, keepdim=True).unsqueeze(2)

    def read_memory(
        self,
        prompts: Tensor,
        places: Tensor,
        asked_at: Tensor,
        memory: TemporalMemory,
        named: Tensor | None = None,
        called: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Read the memory at the places of a question.

        Returns:
            ``(B, Q, heads · head_dim)``, zeros where nothing is readable; and the attention over the slots of each
            place, ``(B, Q, heads, S, K)``.
        """
        images = self.norm(memory.values)
        attention = self.attend(prompts, asked_at, memory, images, named, called)
        weighted = (attention * places.unsqueeze(3)).flatten(3)
        seen = torch.matmul(weighted.flatten(1, 2), images.flatten(1, 2)).unflatten(1, weighted.shape[1:3])
        return self._values(seen, weighted.sum(dim=-1)), attention

    def look(self, prompts: Tensor, images: Tensor) -> Tensor:
        """See `Reader.look`."""
        return self.read_images(self.places(prompts), images)

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
        called = positions.gather(1, asked_at)
        places = self.places(prompts)
        local = self.read_images(places, images, asked_at - start)
        remembered, attention = self.read_memory(prompts, places, asked_at, memory, named, called)
        if reports is not None:
            everywhere = torch.ones_like(places[..., :1])
            remembered = remembered + self.read_memory(prompts, everywhere, asked_at, reports, named, called)[0]
        features = self.out(prompts + self.mix(torch.cat([prompts, local, remembered], dim=-1)))
        # A place counts by the size of its weight, which is not trained by this.
        share = places.detach().abs()
        share = share / share.sum(dim=-1, keepdim=True)
        used = self.heads if explain else self.pointing
        mass = attention[:, :, :used] * share[:, :, :used].unsqueeze(3) if addressable else attention
        return self.tell(features, share, mass, memory, positions, addressable, explain)

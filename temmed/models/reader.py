"""How a question reads: the asked image, then the memory of the positions up to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from temmed.models.encodings import POSITION_SIZE, TIME_SIZE, encode_position, encode_time
from temmed.models.temporal.base import TemporalMemory

#: Added to the score of a slot that may not be read: its weight becomes exactly 0 if any other may.
_HIDDEN = -1e9
#: Read heads that point at the earliest and at the latest evidence.
POINTERS = 2
#: Moments named in a question that a reader takes over: a comparison names two.
NAMED = 2


@dataclass
class Reading:
    """What a question found.

    Attributes:
        features: ``(B, Q, D)``.
        pointers: ``(B, Q, 2, T)`` probability of each position to be the earliest and the latest evidence; ``None``
            where the memory has no addresses.
    """

    features: Tensor
    pointers: Tensor | None


class Reader(nn.Module):
    """Reads the asked image and the memory for a question, in two steps that multiply: where, and when.

    Where: each place of the image grid has a learned key; its product with the question is the weight of that place,
    of either sign and not normalised, so that sums and differences over places (areas, contrasts with the surroundings)
    can be read. The asked image and the memory share these weights: a place learned from one is found in the other.

    When: at each place, attention over the slots of the memory, which are addressed by content, by time, by position
    and by distance to the asked position; the question makes the query for each. Moments that the question names are
    taken over as they are, with a gate for each head. A third of the heads is the pointer at
    the earliest evidence, a third the one at the latest; the rest is free.

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
        super().__init__()
        if heads < POINTERS + 1:
            raise ValueError(f"Expected reader.heads >= {POINTERS + 1}, got {heads}")
        self.heads, self.head_dim = heads, head_dim
        self.norm = nn.LayerNorm(dim)
        self.value = nn.Linear(dim, heads * head_dim)
        self.place_query = nn.Linear(dim, heads * head_dim)
        # Large, so that what changes in an image is heard from the first step, over what cannot be learned yet.
        self.place_key = nn.Parameter(torch.randn(heads, head_dim, places) * 4 * (head_dim * places) ** -0.5)
        self.query = nn.Linear(dim, heads * head_dim)
        self.key = nn.Linear(dim, heads * head_dim, bias=False)
        self.time_query = nn.Linear(dim, heads * TIME_SIZE)
        self.position_query = nn.Linear(dim, heads * POSITION_SIZE)
        self.distance_query = nn.Linear(dim, heads * POSITION_SIZE)
        self.named_gate = nn.Linear(dim, heads * NAMED)
        self.mix = nn.Sequential(
            nn.Linear(dim + 2 * heads * head_dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, dim),
        )
        self.out = nn.LayerNorm(dim)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def places(self, prompts: Tensor) -> Tensor:
        """Weight of each place for each question: ``(B, Q, D) → (B, Q, heads, K)``."""
        return torch.einsum("bqhd,hdk->bqhk", self._split(self.place_query(prompts)), self.place_key)

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
        return (read + total.unsqueeze(-1) * self._split(self.value.bias)).flatten(-2)

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

    def _address(self, prompts: Tensor, asked_at: Tensor, named: Tensor | None) -> Tensor:
        """Queries for time and position, ``(B, Q, heads, MOMENT_SIZE)``.

        A query for the distance to the asked position is one for the position itself, with sines and cosines turned
        by the asked position.
        """
        turn = encode_position(asked_at).unsqueeze(2)
        sine, cosine = turn.chunk(2, dim=-1)
        far_sine, far_cosine = self._split(self.distance_query(prompts)).chunk(2, dim=-1)
        turned = torch.cat([far_cosine * sine - far_sine * cosine, far_sine * sine + far_cosine * cosine], dim=-1)
        position = self._split(self.position_query(prompts)) + turned
        query = torch.cat([self._split(self.time_query(prompts)), position], dim=-1)
        if named is not None:
            query = query + torch.einsum("bqhm,bqme->bqhe", self._split(self.named_gate(prompts)), named)
        return query

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
        query = self._per_head(self._split(self.query(prompts)) * self.head_dim**-0.5, self.key, "bqhd,hde->bqhe")
        content = torch.matmul(query.flatten(1, 2), images.flatten(1, 2).transpose(1, 2))
        times, which_time = torch.unique(memory.times, return_inverse=True)
        positions, which_position = torch.unique(memory.positions, return_inverse=True)
        moment = torch.cat([encode_time(times)[which_time], encode_position(positions)[which_position]], dim=-1)
        query = self._address(prompts, asked_at if called is None else called, named)
        address = torch.matmul(query.flatten(1, 2), moment.flatten(1, 2).transpose(1, 2))
        readable = memory.readable(asked_at)
        hidden = torch.zeros(readable.shape, device=content.device).masked_fill(~readable, _HIDDEN)
        content, address = (
            x.unflatten(1, (questions, self.heads)).unflatten(3, of.shape[1:3])
            for x, of in ((content, images), (address, moment))
        )
        attention = (content + (address + hidden.unsqueeze(2))).softmax(dim=3)
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

    def _pointers(self, attention: Tensor, places: Tensor, memory: TemporalMemory, positions: Tensor) -> Tensor:
        """Where the pointing heads look: a place counts by the size of its weight, which is not trained by this.

        What a slot stands for is taken for the nearest of the positions ``(B, T)``.
        """
        group = self.heads // (POINTERS + 1)
        share = places.detach()[:, :, : POINTERS * group].abs().unsqueeze(3)
        mass = attention[:, :, : POINTERS * group] * (share / share.sum(dim=-1, keepdim=True))
        if memory.positions.shape[-1] == 1:
            mass = mass.sum(dim=-1, keepdim=True)
        mass = mass.unflatten(2, (POINTERS, group)).mean(dim=3)
        between = (positions[:, 1:] + positions[:, :-1]) / 2
        nearest = torch.searchsorted(between, memory.positions.round().flatten(1).to(between.dtype))
        where = nearest.unflatten(1, memory.positions.shape[1:])[:, None, None].expand_as(mass).flatten(-2)
        return mass.new_zeros(*mass.shape[:3], positions.shape[1]).scatter_add(3, where, mass.flatten(-2))

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
    ) -> Reading:
        """Answer features of every question.

        Args:
            prompts: ``(B, Q, D)``.
            images: tokens after `norm`, ``(B, T, K, D)``.
            asked_at: ``(B, Q)`` long.
            memory: of the same sequences, K places.
            reports: what was written, as a memory of one place; read in the same way, wherever the question looks.
            named: the moments that each question names, ``(B, Q, NAMED, MOMENT_SIZE)``.
            addressable: whether slots of the memory stand for positions, to build the pointers.
            positions: what the positions are called where some were left out, ``(B, T)``; counted by default.
        """
        if positions is None:
            positions = torch.arange(images.shape[1], device=images.device).expand(len(images), -1)
        called = positions.gather(1, asked_at)
        places = self.places(prompts)
        local = self.read_images(places, images, asked_at)
        remembered, attention = self.read_memory(prompts, places, asked_at, memory, named, called)
        if reports is not None:
            everywhere = torch.ones_like(places[..., :1])
            remembered = remembered + self.read_memory(prompts, everywhere, asked_at, reports, named, called)[0]
        features = self.out(prompts + self.mix(torch.cat([prompts, local, remembered], dim=-1)))
        return Reading(features, self._pointers(attention, places, memory, positions) if addressable else None)

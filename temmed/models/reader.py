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


@dataclass
class Reading:
    """What a question found.

    Attributes:
        features: ``(B, Q, D)``.
        pointers: ``(B, Q, 2, T)`` probability of each position to be the earliest and the latest evidence; ``None``
            where the memory has no addresses.
        attention: ``(B, Q, S)`` mean attention over the slots of the memory.
    """

    features: Tensor
    pointers: Tensor | None
    attention: Tensor


class Reader(nn.Module):
    """Multi-head attention from a question to image tokens, local and remembered.

    Local tokens and memory slots share keys and values by content, so that a place learned from the asked image is
    found in the memory too. Slots are further addressed by time, by position and by distance to the asked position;
    the question makes the query for each. A third of the heads is the pointer at the earliest evidence, a third the
    one at the latest; the rest is free.

    Args:
        dim: size of tokens and questions.
        heads: number of read heads, at least 3.
        head_dim: size of each.
        hidden: size of the network behind them.
        dropout: in that network.
    """

    def __init__(self, dim: int, heads: int = 6, head_dim: int = 32, hidden: int = 256, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < POINTERS + 1:
            raise ValueError(f"Expected reader.heads >= {POINTERS + 1}, got {heads}")
        self.heads, self.head_dim = heads, head_dim
        self.norm = nn.LayerNorm(dim)
        self.key = nn.Linear(dim, heads * head_dim)
        self.value = nn.Linear(dim, heads * head_dim)
        self.query = nn.Linear(dim, heads * head_dim)
        self.time_query = nn.Linear(dim, heads * TIME_SIZE)
        self.position_query = nn.Linear(dim, heads * POSITION_SIZE)
        self.distance_query = nn.Linear(dim, heads * POSITION_SIZE)
        self.mix = nn.Sequential(
            nn.Linear(dim + 2 * heads * head_dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, dim),
        )
        self.out = nn.LayerNorm(dim)
        # Reading starts selective, each head in its own way, rather than as a mean over all tokens.
        for layer in (self.query, self.key):
            nn.init.xavier_uniform_(layer.weight, gain=2.0)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def project(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values by content, each ``(..., heads, head_dim)``, of tokens ``(..., D)``."""
        normed = self.norm(tokens)
        return self._split(self.key(normed)), self._split(self.value(normed))

    def read_images(self, prompts: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Read every position's own image, without memory.

        Args:
            prompts: ``(B, Q, D)``.
            keys: of the image tokens, ``(B, T, K, heads, head_dim)``.
            values: likewise.

        Returns:
            ``(B, Q, T, heads · head_dim)``.
        """
        query = self._split(self.query(prompts))
        scores = torch.einsum("bqhd,btkhd->bqthk", query, keys) * self.head_dim**-0.5
        return torch.einsum("bqthk,btkhd->bqthd", scores.softmax(dim=-1), values).flatten(-2)

    def _address(self, prompts: Tensor, asked_at: Tensor) -> Tensor:
        """Queries for time and position, ``(B, heads, Q, TIME_SIZE + POSITION_SIZE)``.

        A query for the distance to the asked position is one for the position itself, with sines and cosines turned
        by the asked position.
        """
        turn = encode_position(asked_at).unsqueeze(2)
        sine, cosine = turn.chunk(2, dim=-1)
        far_sine, far_cosine = self._split(self.distance_query(prompts)).chunk(2, dim=-1)
        turned = torch.cat([far_cosine * sine - far_sine * cosine, far_sine * sine + far_cosine * cosine], dim=-1)
        position = self._split(self.position_query(prompts)) + turned
        return torch.cat([self._split(self.time_query(prompts)), position], dim=-1).transpose(1, 2)

    def _read_memory(self, prompts: Tensor, asked_at: Tensor, memory: TemporalMemory) -> tuple[Tensor, Tensor]:
        """``(B, Q, heads · head_dim)`` and the attention ``(B, heads, Q, S)``; zeros where nothing is readable."""
        keys, values = (x.transpose(1, 2).flatten(0, 1) for x in self.project(memory.values))
        query = self._split(self.query(prompts)).transpose(1, 2).flatten(0, 1) * self.head_dim**-0.5
        moments, inverse = torch.unique(torch.stack([memory.times, memory.positions]).flatten(1), dim=1, return_inverse=True)
        moment = torch.cat([encode_time(moments[0]), encode_position(moments[1])], dim=-1)
        moment = moment[inverse].unflatten(0, memory.times.shape)
        address = torch.bmm(self._address(prompts, asked_at).flatten(1, 2), moment.transpose(1, 2))
        scores = torch.baddbmm(address.view(len(query), query.shape[1], -1), query, keys.transpose(1, 2))
        readable = memory.readable(asked_at)
        scores = scores.unflatten(0, (-1, self.heads))
        hidden = torch.zeros(readable.shape, device=scores.device).masked_fill(~readable, _HIDDEN)
        attention = (scores + hidden.unsqueeze(1)).softmax(dim=-1)
        attention = attention * readable.any(dim=-1)[:, None, :, None]
        read = torch.bmm(attention.flatten(0, 1), values).unflatten(0, (-1, self.heads))
        return read.transpose(1, 2).flatten(-2), attention

    def forward(
        self,
        prompts: Tensor,
        keys: Tensor,
        values: Tensor,
        asked_at: Tensor,
        memory: TemporalMemory,
        positions: int | None,
    ) -> Reading:
        """Answer features of every question.

        Args:
            prompts: ``(B, Q, D)``.
            keys: of the image tokens, ``(B, T, K, heads, head_dim)``; from `project`.
            values: likewise.
            asked_at: ``(B, Q)`` long.
            memory: of the same sequences.
            positions: T if the memory has addresses, to build the pointers; else ``None``.
        """
        every = self.read_images(prompts, keys, values)
        local = every.gather(2, asked_at[:, :, None, None].expand(-1, -1, 1, every.shape[-1])).squeeze(2)
        remembered, attention = self._read_memory(prompts, asked_at, memory)
        features = self.out(prompts + self.mix(torch.cat([prompts, local, remembered], dim=-1)))
        pointers = None
        if positions is not None:
            group = self.heads // (POINTERS + 1)
            mass = torch.stack(
                [attention[:, g * group : (g + 1) * group].mean(dim=1) for g in range(POINTERS)], dim=2
            )
            where = memory.positions.round().long().clamp(0, positions - 1)[:, None, None].expand_as(mass)
            pointers = mass.new_zeros(*mass.shape[:3], positions).scatter_add(3, where, mass)
        return Reading(features, pointers, attention.mean(dim=1))

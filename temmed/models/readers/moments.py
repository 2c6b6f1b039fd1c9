"""Which slots of a memory a question means: by time, by position, by distance to where it is asked, or by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from temmed.data.batch import NAMED
from temmed.models.encodings import MOMENT_SIZE, POSITION_SIZE, TIME_SIZE, encode_position, encode_time
from temmed.models.readers.base import Asked
from temmed.models.temporal.base import TemporalMemory

#: Added to the score of a slot that may not be read: its weight becomes exactly 0 if any other may.
_HIDDEN = -1e9


class MomentQuery(nn.Module):
    """What a question asks of the moments of slots.

    Moments that the question names are taken over as they are, with a gate for each head.

    Args:
        dim: size of questions.
        heads: number of read heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.time = nn.Linear(dim, heads * TIME_SIZE)
        self.position = nn.Linear(dim, heads * POSITION_SIZE)
        self.distance = nn.Linear(dim, heads * POSITION_SIZE)
        self.named_gate = nn.Linear(dim, heads * NAMED)

    def forward(self, asked: Asked) -> Tensor:
        """Queries for the moments of slots, ``(B, Q, heads, MOMENT_SIZE)``.

        A query for the distance to the asked position is one for the position itself, with sines and cosines turned
        by the asked position.
        """
        turn = encode_position(asked.called).unsqueeze(2)
        sine, cosine = turn.chunk(2, dim=-1)
        far_sine, far_cosine = self._split(self.distance(asked.prompts)).chunk(2, dim=-1)
        turned = torch.cat([far_cosine * sine - far_sine * cosine, far_sine * sine + far_cosine * cosine], dim=-1)
        position = self._split(self.position(asked.prompts)) + turned
        query = torch.cat([self._split(self.time(asked.prompts)), position], dim=-1)
        if asked.named is not None:
            query = query + torch.einsum("bqhm,bqme->bqhe", self._split(self.named_gate(asked.prompts)), asked.named)
        return query

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


def address(query: Tensor, memory: TemporalMemory) -> Tensor:
    """Scores of slots by their moments: ``(B, Q, heads, MOMENT_SIZE) → (B, Q, heads, S, K or 1)``."""
    times, which_time = torch.unique(memory.times, return_inverse=True)
    positions, which_position = torch.unique(memory.positions, return_inverse=True)
    moment = torch.cat([encode_time(times)[which_time], encode_position(positions)[which_position]], dim=-1)
    assert moment.shape[-1] == MOMENT_SIZE
    scores = torch.matmul(query.flatten(1, 2), moment.flatten(1, 2).transpose(1, 2))
    return scores.unflatten(1, query.shape[1:3]).unflatten(3, moment.shape[1:3])


def hide(readable: Tensor) -> Tensor:
    """What to add to the scores of slots, 0 where they may be read: ``(B, Q, S, K or 1) → (B, Q, 1, S, K or 1)``."""
    return torch.zeros(readable.shape, device=readable.device).masked_fill(~readable, _HIDDEN).unsqueeze(2)

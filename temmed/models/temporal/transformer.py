"""A causal transformer over time, with divided attention as in TimeSformer (Bertasius et al. 2021).

Every place of the image grid attends to itself at all positions up to its own. TimeSformer alternates this with
attention over space; here the places are joined by the reader, so spatial attention is left out. Elapsed time enters
as a continuous encoding, not as an index.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.models import start
from temmed.models.encodings import ElapsedTime
from temmed.models.temporal.base import FOREVER, Chunk, State, TemporalHead, TemporalMemory


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.feed = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )
        # A layer starts by passing its tokens on as they are.
        start.at_zero(self.out, self.feed[-1])

    def forward(self, x: Tensor, allowed: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of x ``(B, K, T, D)``, allowed ``(B, 1, T, P + T)``, past ``(B, K, P, 2 D)``; returns x, the new past."""
        normed = self.norm(x)
        key_value = self.key_value(normed)
        if past is not None:
            key_value = torch.cat([past, key_value], dim=2)
        query, key, value = (
            y.unflatten(-1, (self.heads, -1)).transpose(2, 3).flatten(0, 1)
            for y in (self.query(normed), *key_value.chunk(2, dim=-1))
        )
        k = x.shape[1]
        bias = allowed.repeat_interleave(k, dim=0)
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        x = x + self.out(read.transpose(1, 2).flatten(2).unflatten(0, (-1, k)))
        return x + self.feed(x), key_value


class CausalTransformer(TemporalHead):
    """Full causal attention over all positions; its state grows with the sequence.

    Args:
        dim: size of the tokens.
        layers: number of layers.
        heads: attention heads.
        dropout: in the feed-forward part.
    """

    bounded = False
    addressable = True

    def __init__(self, dim: int, layers: int = 2, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.time = ElapsedTime(dim)
        self.layers = nn.ModuleList(_Layer(dim, heads, dropout) for _ in range(layers))

    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        x = (chunk.tokens + self.time(chunk.times)).transpose(1, 2)
        mask = chunk.mask
        there = mask if state is None else torch.cat([state["there"], mask], dim=1)
        length, total = mask.shape[1], there.shape[1]
        order = torch.arange(total, device=x.device)
        causal = order <= order[total - length :].unsqueeze(1)
        # A padded position may read itself, so that no row of the attention is empty.
        itself = order == order[total - length :].unsqueeze(1)
        allowed = ((causal & there.unsqueeze(1)) | itself).unsqueeze(1)
        carried: State = {"there": there}
        for number, layer in enumerate(self.layers):
            x, carried[f"past_{number}"] = layer(x, allowed, None if state is None else state[f"past_{number}"])
        since = torch.where(mask, chunk.numbers, FOREVER)
        memory = chunk.slot_per_position(x.transpose(1, 2), since, torch.full_like(since, FOREVER))
        if state is not None:
            memory = TemporalMemory.join([_unpack(state), memory])
        return memory, carried | _pack(memory)


def _pack(memory: TemporalMemory) -> State:
    return {f"memory_{name}": value for name, value in vars(memory).items()}


def _unpack(state: State) -> TemporalMemory:
    return TemporalMemory(**{k.removeprefix("memory_"): v for k, v in state.items() if k.startswith("memory_")})

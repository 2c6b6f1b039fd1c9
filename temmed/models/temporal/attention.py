"""What the heads that attend over time share: a layer, and the trail of positions that stay readable.

Tensors are kept as ``(B, T, K, D)``; every place of the image grid attends to itself alone. Places and attention heads
are one dimension to the kernel, so that a mask over positions serves all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.models import start
from temmed.models.temporal.base import FOREVER, Chunk, State, TemporalMemory


class Layer(nn.Module):
    """A pre-norm transformer layer, taken apart where heads differ: in what is attended to.

    Args:
        dim: size of the tokens.
        heads: attention heads.
        dropout: in the feed-forward part.
    """

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

    def attend(self, query: Tensor, key_value: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        """Attention of each place over its own past.

        Args:
            query: ``(B, T, K, D)``.
            key_value: ``(B, P, K, 2 D)``.
            mask: what may be read: bool, or added to the scores; fits ``(B, 1, T, P)``; ``None`` reads all.
            causal: instead of a mask, the first T of P = T.

        Returns:
            ``(B, T, K, D)``.
        """
        asking, key, value = (
            x.unflatten(-1, (self.heads, -1)).flatten(2, 3).transpose(1, 2)
            for x in (query, *key_value.chunk(2, dim=-1))
        )
        read = functional.scaled_dot_product_attention(asking, key, value, attn_mask=mask, is_causal=causal)
        return read.transpose(1, 2).reshape(query.shape)

    def finish(self, x: Tensor, read: Tensor) -> Tensor:
        """What follows the attention: tokens and what they read, both ``(B, T, K, D)``."""
        x = x + self.out(read)
        return x + self.feed(x)


class Layers(nn.ModuleList):
    """Layers with equal sizes, one after the other.

    Args:
        dim: size of the tokens.
        layers: number of layers.
        heads: attention heads of each.
        dropout: of each.
    """

    def __init__(self, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__(Layer(dim, heads, dropout) for _ in range(layers))

    def __iter__(self) -> Iterator[Layer]:
        """Layer by layer, as what they are."""
        return cast(Iterator[Layer], super().__iter__())


def latest(x: Tensor, count: int, fill: float = 0) -> Tensor:
    """The last ``count`` along the second dimension, with ``fill`` in front if there are fewer."""
    missing = count - x.shape[1]
    if missing <= 0:
        return x[:, -missing:]
    return functional.pad(x, (0, 0) * (x.ndim - 2) + (missing, 0), value=fill)


class Trail(NamedTuple):
    """Positions as the last layer left them, in order.

    ``values`` is ``(B, P, K, D)``; ``times``, ``called`` and ``since`` are ``(B, P)``: canonical time, what the
    position is called, and its number, `FOREVER` for one that does not exist.
    """

    values: Tensor
    times: Tensor
    called: Tensor
    since: Tensor

    @classmethod
    def of(cls, chunk: Chunk, values: Tensor, state: State | None) -> Trail:
        """A chunk with the positions that the state carries before it."""
        now = cls(values, chunk.times, chunk.called, numbered(chunk))
        if state is None:
            return now
        return cls(*(torch.cat([state[name], x], dim=1) for name, x in now._asdict().items()))

    def latest(self, count: int) -> Trail:
        """The last positions; in front such that never exist, if there are fewer."""
        return Trail(*(latest(x, count, fill) for x, fill in zip(self, (0, 0, 0, FOREVER), strict=True)))

    def memory(self, until: Tensor) -> TemporalMemory:
        """A slot for each position, readable from then until the numbers ``(B, P)``."""
        told = (self.times, self.called.to(self.times.dtype), self.since, until)
        return TemporalMemory(self.values, *(x.unsqueeze(2) for x in told))


def numbered(chunk: Chunk) -> Tensor:
    """``(B, T)`` number of each position, `FOREVER` for one that does not exist."""
    return torch.where(chunk.mask, chunk.numbers, FOREVER)

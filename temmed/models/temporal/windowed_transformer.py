"""Causal attention over the last few positions, as in Longformer (Beltagy et al. 2020) and Mistral (Jiang et al. 2023).

What differs: no token is global, the band is cut into blocks with plain tensor operations, and elapsed time enters as
a continuous encoding. As in `transformer`, every place of the image grid attends to itself alone. L layers look back
L times as far as one.

The window counts positions, not images: then it has the same edges in all sequences of a batch, and a visit without
an image, which has an embedding of its own, can be read as one that was missed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from temmed.models.encodings import ElapsedTime
from temmed.models.temporal.attention import Layers, Trail, latest, numbered
from temmed.models.temporal.base import FOREVER, Chunk, State, TemporalHead, TemporalMemory


class WindowedTransformer(TemporalHead):
    """Attention over a sliding window; cost is linear in the length, the state keeps its size.

    Args:
        dim: size of the tokens.
        layers: number of layers.
        heads: attention heads.
        window: positions that a layer and a question see, the present one included.
        dropout: in the feed-forward part.
    """

    bounded = True
    addressable = True

    def __init__(self, dim: int, layers: int = 2, heads: int = 4, window: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"Expected window >= 1, got {window}")
        self.window = window
        self.time = ElapsedTime(dim)
        self.layers = Layers(dim, layers, heads, dropout)

    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        x = chunk.tokens + self.time(chunk.times)
        back = self.window - 1
        block = min(self.window, x.shape[1])
        since = self._before(numbered(chunk), state, "since", FOREVER)
        mask = self._mask(since < FOREVER, block)
        carried: State = {}
        for number, layer in enumerate(self.layers):
            normed = layer.norm(x)
            past = self._before(layer.key_value(normed), state, f"past_{number}")
            query = _blocks(layer.query(normed), block, block)
            read = layer.attend(query, _blocks(past, back + block, block), mask)
            x = layer.finish(x, read.unflatten(0, (len(x), -1)).flatten(1, 2)[:, : x.shape[1]])
            carried[f"past_{number}"] = latest(past, back)
        trail = Trail.of(chunk, x, state)
        return trail.memory(trail.since + self.window), carried | trail.latest(back)._asdict()

    def _before(self, x: Tensor, state: State | None, name: str, fill: float = 0) -> Tensor:
        """What the state holds under a name, or ``fill``, before ``x`` along the second dimension."""
        back = self.window - 1
        return latest(x, back + x.shape[1], fill) if state is None else torch.cat([state[name], x], dim=1)

    def _mask(self, there: Tensor, block: int) -> Tensor:
        """Who reads whom inside the blocks, of the positions that exist ``(B, window − 1 + T)``."""
        back = self.window - 1
        band = torch.ones(block, back + block, dtype=torch.bool, device=there.device).triu().tril(back)
        # A padded position may read itself, so that no row of the attention is empty.
        itself = band.triu(back)
        return (band & _blocks(there, back + block, block)[:, None, None]) | itself


def _blocks(x: Tensor, size: int, step: int) -> Tensor:
    """Overlapping pieces of the second dimension: ``(B, P, ...) → (B · N, size, ...)``; the last one is filled up."""
    more = -(x.shape[1] - size) % step
    x = functional.pad(x, (0, 0) * (x.ndim - 2) + (0, more))
    return x.unfold(1, size, step).movedim(-1, 2).flatten(0, 1)

"""A causal transformer over time, with divided attention as in TimeSformer (Bertasius et al. 2021).

Every place of the image grid attends to itself at all positions up to its own. TimeSformer alternates this with
attention over space; here the places are joined by the reader, so spatial attention is left out. Elapsed time enters
as a continuous encoding, not as an index.
"""

from __future__ import annotations

import torch
from torch import Tensor

from temmed.models.encodings import ElapsedTime
from temmed.models.temporal.attention import Layers, Trail, numbered
from temmed.models.temporal.base import FOREVER, Chunk, State, TemporalHead, TemporalMemory


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
        self.layers = Layers(dim, layers, heads, dropout)

    def read(self, chunk: Chunk, state: State | None) -> tuple[TemporalMemory, State]:
        """See `TemporalHead.read`."""
        x = chunk.tokens + self.time(chunk.times)
        since = numbered(chunk)
        there = (since if state is None else torch.cat([state["since"], since], dim=1)) < FOREVER
        mask = _mask(there, x.shape[1])
        carried: State = {}
        for number, layer in enumerate(self.layers):
            normed = layer.norm(x)
            past = layer.key_value(normed)
            if state is not None:
                past = torch.cat([state[f"past_{number}"], past], dim=1)
            x = layer.finish(x, layer.attend(layer.query(normed), past, mask, causal=mask is None))
            carried[f"past_{number}"] = past
        trail = Trail.of(chunk, x, state)
        return trail.memory(torch.full_like(trail.since, FOREVER)), carried | trail._asdict()


def _mask(there: Tensor, length: int) -> Tensor | None:
    """Who reads whom, for the last positions of those that exist ``(B, P)``; ``None`` where it is plainly causal.

    Where all exist, one mask serves all sequences.
    """
    total = there.shape[1]
    complete = bool(there.all())
    if complete and length == total:
        return None
    causal = torch.ones(length, total, dtype=torch.bool, device=there.device).tril(total - length)
    if complete:
        return causal
    # A padded position may read itself, so that no row of the attention is empty.
    itself = causal.triu(total - length)
    return (causal & there[:, None, None]) | itself

"""A gated recurrent unit over the images of each place (Cho et al. 2014); for what differs see `recurrent`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from temmed.models.temporal.gru_scan import scan
from temmed.models.temporal.recurrent import Recurrent, memories, recurrent_biases


class GRU(Recurrent):
    """A gated recurrent unit at each place.

    Args:
        dim: size of the tokens.
        layers: number of layers.
        horizon: images that the slowest units remember at the start.
        hidden: units of a layer; ``dim`` when left out.
    """

    def __init__(self, dim: int, layers: int = 1, horizon: float = 64.0, hidden: int | None = None) -> None:
        units = hidden or dim
        super().__init__(dim, nn.GRU(dim, units, layers), ("hidden",))
        for bias in recurrent_biases(self.network):
            _, keep, _ = bias.chunk(3)  # gates of reset and update, and the candidate
            keep.copy_(memories(units, horizon))

    def recur(self, rows: Tensor, there: Tensor, hidden: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Recurrent.recur`."""
        if rows.device.type != "cpu" or torch.compiler.is_compiling():
            return super().recur(rows, there, hidden)
        assert isinstance(self.network, nn.GRU)
        outputs, after = scan(self.network, rows, there, hidden[0])
        return outputs, (after,)

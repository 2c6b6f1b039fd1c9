"""Long short-term memory over the images of each place (Hochreiter & Schmidhuber 1997, Gers et al. 2000).

For what differs see `recurrent`.
"""

from __future__ import annotations

from torch import nn

from temmed.models.temporal.recurrent import Recurrent, memories, recurrent_biases


class LSTM(Recurrent):
    """A long short-term memory at each place.

    Args:
        dim: size of the tokens.
        layers: number of layers.
        horizon: images that the slowest units remember at the start.
        hidden: units of a layer; ``dim`` when left out.
    """

    def __init__(self, dim: int, layers: int = 1, horizon: float = 64.0, hidden: int | None = None) -> None:
        units = hidden or dim
        super().__init__(dim, nn.LSTM(dim, units, layers), ("hidden", "cell"))
        for bias in recurrent_biases(self.network):
            write, keep, _, _ = bias.chunk(4)  # gates of input and forgetting, the candidate, the gate of output
            keep.copy_(memories(units, horizon))
            write.copy_(-memories(units, horizon))

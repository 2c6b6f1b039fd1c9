"""What the gated recurrent networks share: torch's own kernels over the images of each place.

Gaps are irregular. GRU-D (Che et al. 2018) lets the state decay with the time since the last observation, in a formula
of its own between two steps; here that time is an input of every gate, which can learn to forget by it, and a kernel of
torch reads a whole sequence at once. Units start with memories of unlike length, from one image to ``horizon``, as in
the chrono initialisation (Tallec & Ollivier 2018), but evenly spread on a logarithmic scale instead of at random.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from temmed.models.temporal.base import State
from temmed.models.temporal.images import ImageByImage, Images


class Recurrent(ImageByImage):
    """What GRU and LSTM share.

    Args:
        dim: size of the tokens.
        network: whose states have the shape ``(layers, rows, hidden)``.
        carried: what its states are called.
    """

    def __init__(self, dim: int, network: nn.GRU | nn.LSTM, carried: tuple[str, ...]) -> None:
        super().__init__(dim)
        self.network, self.carried = network, carried
        self.out = nn.Linear(network.hidden_size, dim)

    def run(self, images: Images, state: State) -> tuple[Tensor, State]:
        """See `ImageByImage.run`; in full precision, as rounding errors of many steps add up."""
        size, _, places = images.tokens.shape[:3]
        rows = images.tokens.transpose(0, 1).flatten(1, 2).to(self.out.weight.dtype)
        if not state:
            nothing = rows.new_zeros(size, places, self.network.num_layers, self.network.hidden_size)
            state = dict.fromkeys(self.carried, nothing)
        hidden = tuple(state[name].flatten(0, 1).transpose(0, 1).contiguous() for name in self.carried)
        there = images.there.t().repeat_interleave(places, dim=1)
        with torch.autocast(rows.device.type, enabled=False):
            outputs, hidden = self.recur(rows, there, hidden)
        some = (images.lengths > 0)[:, None, None, None]
        after = [x.transpose(0, 1).unflatten(0, (size, places)) for x in hidden]
        carried = {name: torch.where(some, x, state[name]) for name, x in zip(self.carried, after, strict=True)}
        return self.out(outputs).unflatten(1, (size, places)).transpose(0, 1), carried

    def recur(self, rows: Tensor, there: Tensor, hidden: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read rows ``(L, R, D)``, some of which end before others.

        Args:
            rows: of all sequences and places.
            there: ``(L, R)`` bool, up to the end of each row.
            hidden: ``(layers, R, hidden)`` each.

        Returns:
            ``(L, R, hidden)``, anything behind the end of a row; and what is carried after it, of rows that have none
            anything.
        """
        if bool(there.all()):
            return self._network(rows, hidden)
        each = there.sum(dim=0).clamp(min=1).cpu()
        packed, hidden = self._network(pack_padded_sequence(rows, each, enforce_sorted=False), hidden)
        return pad_packed_sequence(packed, total_length=len(rows))[0], hidden

    def _network(self, rows: Any, hidden: tuple[Tensor, ...]) -> tuple[Any, tuple[Tensor, ...]]:
        """The network, whose states are a tuple even if it is but one."""
        outputs, after = self.network(rows, hidden if len(hidden) > 1 else hidden[0])
        return outputs, after if isinstance(after, tuple) else (after,)


def recurrent_biases(network: nn.RNNBase) -> list[Tensor]:
    """The biases of all layers that are added to what is made of the state."""
    return [bias.detach() for name, bias in network.named_parameters() if name.startswith("bias_hh")]


def memories(dim: int, horizon: float) -> Tensor:
    """Biases ``(dim,)`` of gates that forget 1/2 … 1/(1 + horizon) of the state with every image."""
    return torch.logspace(0, 1, dim, base=horizon).log()

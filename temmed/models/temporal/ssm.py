"""A selective state space over the images of each place: Mamba (Gu & Dao 2023), computed as Mamba-2 (Dao & Gu 2024) is.

The state is a matrix: what is written is a value under a key, what is read is found by a query, and before every image
each channel of the values decays by a factor that depends on the image (the step of the discretisation). What differs:

- Time is real: the state also decays with the time since the image before, at a learned rate per channel.
- What is written has the weight that is forgotten, ``1 − exp(−step)`` (the exact solution for an input that is held)
  instead of ``step``: the state is a mean and stays bounded. The constant of the decay is part of the step, the same
  for all entries of a channel. As steps are softplus(s), the weight is sigmoid(s).
- There is no short convolution in front, and no way around the state within a layer but the residual.

Sequences are computed in blocks: within a block by products of matrices (the dual form of Mamba-2), and from block to
block by a recurrence. Decays within a block are quotients of decays since its middle, so that one product serves all
channels; an upper bound on each decay keeps them within the range of single precision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from temmed.models import start
from temmed.models.temporal.base import State
from temmed.models.temporal.images import ImageByImage, Images

#: Images that are computed at once.
_BLOCK = 16
#: Greatest decay: exp(±16 · 5 / 2) is within the range of single precision, with room for what it scales.
_MOST = 5.0
#: Rate of decay with time at the start, per day or second: slow enough to forget nothing.
_SLOW = 1e-4


def scan(decay: Tensor, value: Tensor, key: Tensor, query: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Write values under keys into a state that decays, and read it with queries.

    At each image ``state ← state · exp(−decay) + key ⊗ value``, then ``query · state`` is read. R rows, C blocks of S
    images, N the size of keys, D that of values.

    Args:
        decay: ``(R, C, S, D)``, at least 0; their sum over a block at most 80.
        value: ``(R, C, S, D)``.
        key: ``(R, C, S, N)``.
        query: ``(R, C, S, N)``.
        state: ``(R, N, D)`` before the first image.

    Returns:
        What is read, ``(R, C, S, D)``, and the state after the last image.
    """
    total = decay.cumsum(dim=2)
    whole = total[:, :, -1:]
    middle = whole.detach() / 2  # it cancels out
    since = (middle - total).exp()
    value = value / since
    added = (key.transpose(2, 3) @ value) * (middle - whole).exp()
    before = []
    for kept, new in zip((-whole).exp().unbind(1), added.unbind(1), strict=True):
        before.append(state)
        state = torch.addcmul(new, kept, state)
    later = torch.ones(value.shape[2], value.shape[2], dtype=torch.bool, device=decay.device).triu(1)
    found = (query @ key.transpose(2, 3)).masked_fill(later, 0.0) @ value
    found = found + query @ (torch.stack(before, dim=1) * (-middle).exp())
    return found * since, state


class _Layer(nn.Module):
    def __init__(self, dim: int, state_size: int, horizon: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.split = (dim, dim, dim, state_size, state_size)
        self.enter = nn.Linear(dim, sum(self.split))
        self.rate = nn.Parameter(torch.full((dim,), _SLOW).log())
        self.read_norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)
        # A layer starts by passing its tokens on as they are, and its channels with steps from 1 to 1 / horizon.
        start.at_zero(self.out)
        steps = torch.logspace(0, -1, dim, base=horizon)
        with torch.no_grad():
            self.enter.bias[:dim] = steps.expm1().log()

    def forward(self, x: Tensor, gaps: Tensor, there: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of x ``(R, C, S, D)``, gaps and there ``(R, C, S, 1)``, state ``(R, N, D)``; returns x and the new state."""
        step, gate, value, key, query = self.enter(self.norm(x)).split(self.split, dim=-1)
        dtype = self.rate.dtype
        with torch.autocast(x.device.type, enabled=False):  # errors of many steps add up
            step = step.to(dtype).masked_fill(~there, -torch.inf)
            value = value.to(dtype) * step.sigmoid()
            if state is None:
                state = value.new_zeros(len(x), key.shape[-1], value.shape[-1])
            decay = torch.addcmul(functional.softplus(step), gaps, self.rate.exp()).clamp(max=_MOST)
            read, state = scan(decay, value, key.to(dtype), query.to(dtype), state)
        return x + self.out(self.read_norm(read) * functional.silu(gate)), state


class SelectiveStateSpace(ImageByImage):
    """Layers of a selective state space with a state of ``state_size × dim`` numbers at each place.

    Args:
        dim: size of the tokens.
        layers: number of layers.
        state_size: size of keys and queries.
        horizon: images that the slowest channels remember at the start.
    """

    def __init__(self, dim: int, layers: int = 1, state_size: int = 16, horizon: float = 64.0) -> None:
        super().__init__(dim)
        self.layers = nn.ModuleList(_Layer(dim, state_size, horizon) for _ in range(layers))

    def run(self, images: Images, state: State) -> tuple[Tensor, State]:
        """See `ImageByImage.run`."""
        size, length, places = images.tokens.shape[:3]
        block = min(_BLOCK, length)

        def blocks(x: Tensor) -> Tensor:
            """``(B, L, K or 1, …)`` in blocks, ``(B · K, C, S, …)``; what fills up the last is not there."""
            x = functional.pad(x, (0, 0, 0, 0, 0, -length % block)).expand(-1, -1, places, -1)
            return x.transpose(1, 2).flatten(0, 1).unflatten(1, (-1, block))

        x, carried = blocks(images.tokens), State()
        gaps, there = (blocks(y[..., None, None]) for y in (images.gaps.to(x.dtype), images.there))
        for number, layer in enumerate(self.layers):
            name = f"state_{number}"
            x, after = layer(x, gaps, there, state[name].flatten(0, 1) if state else None)
            carried[name] = after.unflatten(0, (size, places))
        return x.flatten(1, 2)[:, :length].unflatten(0, (size, places)).transpose(1, 2), carried

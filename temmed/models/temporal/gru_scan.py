"""The recurrence of `torch.nn.GRU` with a backward pass of its own, for processors.

On a processor torch records some ten small operations for every step. Here a step writes into arrays that are there
already, and going back, all that does not depend on later steps is computed at once: the same numbers in about half the
time. On other devices, and when compiling, torch's own kernel is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Steps whose arrays are allocated at once. Arrays of over 32 MB would be fetched from the system each time.
_BLOCK = 256


class _Scan(Function):
    """One layer over T steps of R rows with H units; gates stand in torch's order: reset, update, candidate."""

    @staticmethod
    def forward(ctx: Any, entered: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> Tensor:
        """Of what enters ``(T, R, 3 H)``, weight ``(3 H, H)``, bias ``(3 H,)`` and state ``(R, H)``: ``(T, R, H)``."""
        size = state.shape[1]
        gates = torch.empty_like(entered)
        recalled = entered.new_empty(*entered.shape[:2], size)  # what the state gives to the candidate
        states = entered.new_empty(len(entered) + 1, *state.shape)
        states[0] = state
        turned = weight.t().contiguous()
        projected = entered.new_empty(len(state), 3 * size)
        to_gates, to_candidate = projected.split((2 * size, size), dim=1)
        whole = (entered, gates, recalled, states[:-1], states[1:])
        for enters, gate, recall, before, after in zip(*(x.unbind(0) for x in whole), strict=True):
            torch.addmm(bias, before, turned, out=projected)
            recall.copy_(to_candidate)
            both, candidate = gate.split((2 * size, size), dim=1)
            torch.add(enters[:, : 2 * size], to_gates, out=both).sigmoid_()
            torch.addcmul(enters[:, 2 * size :], both[:, :size], to_candidate, out=candidate).tanh_()
            torch.lerp(candidate, before, both[:, size:], out=after)
        ctx.save_for_backward(gates, recalled, states, weight)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of what `forward` was given."""
        gates, recalled, states, weight = ctx.saved_tensors
        size = weight.shape[1]
        reset, update, candidate = gates.split(size, dim=2)
        # Derivatives by what stands inside the gates, of the state after a step.
        by_candidate = (1 - update) * (1 - candidate.square())
        by_update = (states[:-1] - candidate) * update * (1 - update)
        by_reset = recalled * reset * (1 - reset)
        into = torch.empty_like(gates)  # gradients of what the state before is projected to
        inside = torch.empty_like(recalled)  # of what stands inside the candidate
        carried = torch.zeros_like(states[0])
        whole = (grad, by_candidate, by_update, by_reset, reset, update, into, inside)
        steps = list(zip(*(x.unbind(0) for x in whole), strict=True))
        for g, n, z, r, opened, kept, target, candidates in reversed(steps):
            carried = carried + g
            torch.mul(carried, n, out=candidates)
            torch.mul(candidates, r, out=target[:, :size])
            torch.mul(carried, z, out=target[:, size : 2 * size])
            torch.mul(candidates, opened, out=target[:, 2 * size :])
            carried = torch.addmm(carried * kept, target, weight)
        flat = into.flatten(0, 1)
        entered = torch.cat([into[..., : 2 * size], inside], dim=2)
        return entered, flat.t() @ states[:-1].flatten(0, 1), flat.sum(dim=0), carried


def scan(network: nn.GRU, rows: Tensor, there: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """What the network gives for rows some of which have ended.

    Args:
        network: layers that read forwards, with biases.
        rows: ``(T, R, D)``.
        there: ``(T, R)`` bool; where it is false, the state stays what it was.
        state: ``(layers, R, H)`` before the first step.

    Returns:
        The states of the last layer after each step, ``(T, R, H)``, and those of all layers after the last.
    """
    after = []
    for layer, hidden in enumerate(state.unbind(0)):
        enter, recur, entered_bias, bias = network.all_weights[layer]
        parts = []
        for part, known in zip(rows.split(_BLOCK), there.split(_BLOCK), strict=True):
            entered = functional.linear(part, enter, entered_bias)
            if not bool(known.all()):
                # An update gate that is wide open keeps the state to the last bit.
                reset, update, candidate = entered.chunk(3, dim=2)
                update = update.masked_fill(~known.unsqueeze(2), torch.inf)
                entered = torch.cat([reset, update, candidate], dim=2)
            parts.append(_Scan.apply(entered, recur, bias, hidden))
            hidden = parts[-1][-1]
        rows = torch.cat(parts) if len(parts) > 1 else parts[0]
        after.append(hidden)
    return rows, torch.stack(after)

"""Rows of all processes at hand in each, with gradients to where they came from."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """Tensors of one shape from all processes; each gets the sum of the gradients that all have for its own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """``(...) → (processes, ...)``."""
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Gradients by all processes for what each of them gave."""
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[dist.get_rank()]


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, in order of their rank; without processes the rows themselves.

    Processes may have unlike numbers of rows, or none; all must call this alike.

    Args:
        rows: ``(n, ...)``.

    Returns:
        ``(sum of all n, ...)``, and the index of the first own row.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows, 0
    lengths = _Gather.apply(torch.tensor([len(rows)], device=rows.device)).flatten().tolist()
    padding = rows.new_zeros(max(1, *lengths) - len(rows), *rows.shape[1:])
    parts = _Gather.apply(torch.cat([rows, padding]).contiguous())
    first = sum(lengths[: dist.get_rank()])
    return torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)]), first

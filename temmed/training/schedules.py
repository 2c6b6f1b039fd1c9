"""Learning-rate schedules by share of the run, so that a longer run needs no other numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def _with_warmup(optimizer: Optimizer, total_steps: int, warmup: float, after: Callable[[float], float]) -> LambdaLR:
    rising = max(1, round(warmup * total_steps)) if warmup > 0 else 0

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return after(min(1.0, (step - rising) / max(1, total_steps - rising)))

    return LambdaLR(optimizer, factor)


def constant(optimizer: Optimizer, total_steps: int, warmup: float = 0.0) -> LambdaLR:
    """The peak rate after a linear rise over the share ``warmup`` of all steps."""
    return _with_warmup(optimizer, total_steps, warmup, lambda share: 1.0)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LambdaLR:
    """Half a cosine from the peak rate to ``final`` times it (Loshchilov & Hutter 2017), after a linear rise."""
    return _with_warmup(
        optimizer, total_steps, warmup, lambda share: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))
    )


def step(
    optimizer: Optimizer,
    total_steps: int,
    warmup: float = 0.0,
    milestones: Sequence[float] = (0.6, 0.85),
    gamma: float = 0.1,
) -> LambdaLR:
    """The rate times ``gamma`` at each milestone, given as shares of the steps after the rise."""
    return _with_warmup(optimizer, total_steps, warmup, lambda share: gamma ** sum(share >= m for m in milestones))

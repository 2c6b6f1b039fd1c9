"""What a step of every temporal head costs after many others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from temmed.models.temporal.base import TemporalHead

from .test_temporal_long import make_head, make_loop


class _Work(TorchDispatchMode):
    """Counts the operations of torch, and the numbers that they return."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.numbers = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operations += 1
        self.numbers += sum(x.numel() for x in tree_leaves(found) if isinstance(x, Tensor))
        return found


def _work_of_a_step(head: TemporalHead, after: int) -> tuple[int, int, int]:
    """Operations, numbers they return and floating-point operations of one step after so many positions."""
    tokens, times, mask, _ = make_loop(after + 1, batch=1, places=1)
    with torch.no_grad():
        _, state = head(*(x[:, :after] for x in (tokens, times, mask, mask)))
        with FlopCounterMode(display=False) as flops, _Work() as work:
            head.step(tokens[:, after], times[:, after], state)
    return work.operations, work.numbers, flops.get_total_flops()


def test_a_step_costs_the_same_after_a_thousand_if_bounded(head_config: Mapping[str, Any]) -> None:
    head = make_head(head_config)
    # At the same place of any segment: 960 is a multiple of 64, the size in the YAML, and of 3.
    early, late = (_work_of_a_step(head, after) for after in (40, 1000))
    assert (early == late) == head.bounded

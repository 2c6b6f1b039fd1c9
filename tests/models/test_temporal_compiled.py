"""Every temporal head under torch.compile: traced forward and backward, it gives the same memory and gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from temmed.models.temporal.base import TemporalHead, TemporalMemory

from .conftest import LIMITS
from .test_temporal_long import make_head, make_loop, mean_readable

LENGTH = 7


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _mean(memory: TemporalMemory, position: int, name: str) -> Tensor:
    found: Tensor = getattr(memory, name)
    return mean_readable(memory, position, found if name == "values" else found.unsqueeze(-1))


def _read(head: TemporalHead) -> tuple[TemporalMemory, Tensor | None]:
    """The memory of a loop, and the gradient of what is read of it with respect to the tokens."""
    tokens, *others = make_loop(LENGTH)
    tokens.requires_grad_()
    memory, _ = head(tokens, *others)
    if memory.values.requires_grad:
        sum(mean_readable(memory, p, memory.values).square().sum() for p in range(LENGTH)).backward()  # type: ignore[union-attr]
    return memory, tokens.grad


@pytest.mark.slow
@pytest.mark.nightly
def test_compiled_heads_say_and_learn_the_same(head_config: Mapping[str, Any]) -> None:
    if any(head_config.get(limit, 3) != 3 for limit in LIMITS):
        pytest.skip("slow, and told by the head with a limit of 3")
    head = make_head(head_config)
    plain, gradient = _read(head)
    # The code that inductor makes of a traced graph is torch's own and takes minutes to compile.
    head.compile(backend="aot_eager")
    compiled, again = _read(head)
    for position in range(LENGTH):
        for name in ("values", "times", "positions"):
            one, other = (_mean(memory, position, name) for memory in (plain, compiled))
            torch.testing.assert_close(other, one, atol=2e-5, rtol=1e-4)
    assert (again is None) == (gradient is None)
    if gradient is not None:
        torch.testing.assert_close(again, gradient, atol=2e-5, rtol=1e-4)

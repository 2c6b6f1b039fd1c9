"""Learning-rate factors at the steps that matter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from temmed.training.schedules import constant, cosine, step


def _rates(schedule: Callable, total: int = 100, **options: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, total, **options)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"] / 2.0)
        optimizer.step()
        scheduler.step()
    return rates


def test_constant_with_and_without_warmup() -> None:
    assert _rates(constant) == [1.0] * 100
    rates = _rates(constant, warmup=0.1)
    assert rates[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert rates[10:] == [1.0] * 90


def test_cosine_falls_from_the_peak_to_the_final_share() -> None:
    rates = _rates(cosine, warmup=0.2, final=0.1)
    assert rates[19] == rates[20] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.55)
    assert rates == sorted(rates[:20]) + sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_step_falls_at_the_milestones() -> None:
    rates = _rates(step, milestones=[0.5, 0.8], gamma=0.1)
    assert rates[49] == 1.0
    assert rates[50] == pytest.approx(0.1)
    assert rates[79] == pytest.approx(0.1)
    assert rates[80] == pytest.approx(0.01)


@pytest.mark.parametrize("schedule", [constant, cosine, step])
def test_a_run_of_one_step_trains(schedule: Callable) -> None:
    assert _rates(schedule, total=1, warmup=0.05) == [1.0]

"""A learning rate by the range test of Smith (2017): raise it step by step, and see where the loss falls fastest.

Lightning's tuner runs the test. Its own suggestion is the steepest fall per unit of the rate, which favours the
smallest rates tried, whatever the loss does there; here it is the steepest fall per factor of the rate, as the rates
are tried.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.tuner.tuning import Tuner

from temmed.data.datamodule import TimelineDataModule
from temmed.errors import InputError
from temmed.training.module import TimelineModule

#: Rates that are tried.
RANGE = (1e-6, 1.0)
#: The first steps, in which the mean of the loss settles, and the last, in which it diverges, suggest nothing.
_SKIPPED = (10, 1)
#: With fewer steps than these there is nothing between the ones that are skipped.
LEAST_STEPS = sum(_SKIPPED) + 2
_WIDTH, _HEIGHT, _EDGE = 620, 360, 50


@dataclass(frozen=True)
class RangeTest:
    """The course of the test.

    Attributes:
        rates: that were tried, in order.
        losses: a running mean at each.
        best: index of the one that is suggested.
    """

    rates: list[float]
    losses: list[float]
    best: int


def find_lr(
    module: TimelineModule, data: TimelineDataModule, steps: int, trainer: Callable[..., pl.Trainer]
) -> RangeTest:
    """Try rates from 1e-6 to 1, evenly in their logarithm; it ends early where the loss is four times the best.

    Args:
        module: fresh, with its optimizer; its weights are put back.
        data: the train subset is used.
        steps: how many rates, at least `LEAST_STEPS`.
        trainer: makes a Lightning trainer of further arguments.

    Raises:
        InputError: the loss was no number, or left the range, before it could fall.
    """
    with tempfile.TemporaryDirectory() as scratch:
        runner = trainer(
            max_epochs=-1,
            max_steps=steps,
            check_val_every_n_epoch=None,
            val_check_interval=10**9,  # never
            default_root_dir=scratch,
            logger=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
        )
        low, high = RANGE
        found = Tuner(runner).lr_find(
            module, datamodule=data, min_lr=low, max_lr=high, num_training=steps, update_attr=False
        )
    assert found is not None
    rates, losses = found.results["lr"], found.results["loss"]
    return RangeTest(rates, losses, steepest(rates, losses))


def steepest(rates: list[float], losses: list[float]) -> int:
    """Where losses fall fastest by the logarithm of the rate.

    Raises:
        InputError: there are too few finite ones to tell.
    """
    first, last = _SKIPPED[0], len(losses) - _SKIPPED[1]
    kept = [n for n in range(first, last) if math.isfinite(losses[n])]
    if len(kept) < 2:
        raise InputError(
            f"a loss that can be followed over {LEAST_STEPS} steps",
            f"{len(losses)} steps, of which {sum(map(math.isfinite, losses))} with a finite loss",
            "find_lr",
            "Give more steps, for instance find_lr=200; if the loss is no number from the start, look at the data.",
        )
    slope = np.gradient(np.array([losses[n] for n in kept]), np.log([rates[n] for n in kept]))
    return kept[int(slope.argmin())]


def draw(test: RangeTest) -> str:
    """The losses over the rates as an SVG page, with a dot at the suggestion."""
    shown = [(rate, loss) for rate, loss in zip(test.rates, test.losses, strict=True) if math.isfinite(loss)]
    x_low, x_high = math.log10(shown[0][0]), math.log10(shown[-1][0])
    # What diverges in the end would flatten all that comes before.
    start, best = shown[0][1], min(loss for _, loss in shown)
    y_low, y_high = best, start + (start - best) + 1e-9

    def place(rate: float, loss: float) -> str:
        x = _EDGE + (_WIDTH - 2 * _EDGE) * (math.log10(rate) - x_low) / (x_high - x_low)
        y = _EDGE + (_HEIGHT - 2 * _EDGE) * (y_high - min(loss, y_high)) / (y_high - y_low)
        return f"{x:.1f},{y:.1f}"

    ticks = [10.0**n for n in range(math.ceil(x_low), math.floor(x_high) + 1)]
    marks = [(place(rate, y_low).split(",")[0], f"{rate:g}") for rate in ticks]
    cx, cy = place(test.rates[test.best], test.losses[test.best]).split(",")
    labels = "".join(f'<text x="{x}" y="{_HEIGHT - 25}" text-anchor="middle">{text}</text>' for x, text in marks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{labels}'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">learning rate</text>'
        f'<text x="{_EDGE - 6}" y="{_EDGE}" text-anchor="end">{y_high:.3g}</text>'
        f'<text x="{_EDGE - 6}" y="{_HEIGHT - _EDGE}" text-anchor="end">{y_low:.3g}</text>'
        f'<polyline fill="none" stroke="#2563a8" stroke-width="1.5" points="{" ".join(place(*p) for p in shown)}"/>'
        f'<circle cx="{cx}" cy="{cy}" r="5" fill="#b3261e"/>'
        f'<text x="{cx}" y="{float(cy) - 10:.1f}" text-anchor="middle">{test.rates[test.best]:.2g}</text></svg>\n'
    )

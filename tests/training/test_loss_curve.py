"""A few steps of training on the tiny folder, pinned: from files to gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from temmed.training.module import TimelineModule

from ..golden import Golden
from .conftest import QUIET

#: A rate at which six steps go down: where they jump, small differences of rounding grow.
SLOWLY = partial(torch.optim.SGD, lr=0.003)


class _Losses(pl.Callback):
    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: dict[str, Tensor],
        batch: object,
        batch_idx: int,
    ) -> None:
        self.found.append(outputs["loss"])


def test_golden_loss_curve(
    make_module: Callable[..., TimelineModule], make_loader: Callable[..., DataLoader], golden: Golden
) -> None:
    losses = _Losses()
    pl.Trainer(**QUIET, max_epochs=3, callbacks=[losses]).fit(make_module(optimizer=SLOWLY), make_loader(4))
    # Float32 sums in another order move a loss by some 1e-6; six steps make that no more than 1e-4 of it.
    golden.check("loss_curve", {"loss": torch.stack(losses.found)}, rtol=1e-3, atol=0)

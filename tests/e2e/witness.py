"""A callback for runs in processes of their own: what they were trained on, and a kill that nobody sees coming."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from temmed.data.batch import TimelineBatch


class Witness(pl.Callback):
    """Writes a line for every batch, a file for every process, and kills the group of processes where it is told.

    Args:
        folder: where the files are.
        epoch: of the kill; ``None`` for none.
        batch: with this batch of the epoch; ``None`` for the first batch of its validation.
    """

    def __init__(self, folder: str, epoch: int | None = None, batch: int | None = None) -> None:
        self.folder, self.epoch, self.batch = Path(folder), epoch, batch

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: TimelineBatch, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            os.killpg(0, signal.SIGKILL)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: TimelineBatch, batch_idx: int
    ) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / f"rank{trainer.global_rank}.txt").open("a") as file:
            file.write(f"{trainer.current_epoch} {batch_idx} {' '.join(batch.sequence_ids)}\n")

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.batch is None and trainer.current_epoch == self.epoch:
            os.killpg(0, signal.SIGKILL)

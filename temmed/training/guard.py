"""Stop at the first loss or gradient that is not a number, with the batch that caused it."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from temmed.data.batch import TimelineBatch
from temmed.errors import InputError
from temmed.files import atomic_stream


class NanGuard(pl.Callback):
    """Ends a training whose loss or gradient is infinite or not a number, before the weights take it up.

    The batch is kept as ``nan_batch.pt`` (``nan_batch_RANK.pt`` of further processes), and the run as it was before as
    ``nan.ckpt``: `load_batch` and `temmed.training.checkpoint.load_module` read them.

    Args:
        dirpath: where both files are written.
        gradients: look at the gradients, too. Half precision (``16-mixed``) passes over steps whose gradients are
            infinite by itself, so they are not looked at there.
    """

    def __init__(self, dirpath: str | Path, gradients: bool = True) -> None:
        self.folder, self.gradients = Path(dirpath), gradients
        self._batch: TimelineBatch | None = None
        self._number = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TimelineBatch, batch_idx: int
    ) -> None:
        """Hold the batch until its step is done."""
        self._batch, self._number = batch, batch_idx

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Look at the loss."""
        if self._agreed(trainer, not bool(loss.isfinite())):
            logged = trainer.callback_metrics
            bad = [name for name, value in logged.items() if name.startswith("train/") and not value.isfinite()]
            self._stop(trainer, ", ".join(f"{name}={float(logged[name])}" for name in bad) or f"loss={float(loss)}")

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look at the gradients."""
        if not self.gradients or trainer.precision == "16-mixed":
            return
        named = [(name, p.grad) for name, p in pl_module.named_parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm([gradient for _, gradient in named]))
        if self._agreed(trainer, not bool(norms.isfinite().all())):
            bad = [name for (name, _), norm in zip(named, norms, strict=True) if not norm.isfinite()]
            more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
            self._stop(trainer, f"another number in the gradient of {', '.join(bad[:3]) or 'another process'}{more}")

    @staticmethod
    def _agreed(trainer: pl.Trainer, bad: bool) -> bool:
        """Whether any process has found something, so that none waits for one that has stopped."""
        return bool(trainer.strategy.reduce_boolean_decision(bad, all=False))

    def _stop(self, trainer: pl.Trainer, found: str) -> None:
        batch = self._batch
        assert batch is not None
        rank = trainer.global_rank
        path = self.folder / ("nan_batch.pt" if rank == 0 else f"nan_batch_{rank}.pt")
        trainer.save_checkpoint(self.folder / "nan.ckpt", weights_only=False)
        with atomic_stream(path) as stream:
            torch.save(batch.to("cpu"), stream)
        epoch, step = trainer.current_epoch + 1, trainer.global_step + 1
        raise InputError(
            "a finite loss and gradient",
            found,
            f"epoch {epoch}, step {step}, batch {self._number + 1}, sequences {', '.join(batch.sequence_ids)}",
            f"The batch is in {path}, the weights before it in {self.folder / 'nan.ckpt'}. Look for values that are "
            "not numbers in its images, or lower optimizer.lr.",
        )


def load_batch(path: str | Path) -> TimelineBatch:
    """A batch that `NanGuard` has written."""
    with torch.serialization.safe_globals([TimelineBatch]):
        batch = torch.load(path, map_location="cpu", weights_only=True)
    assert isinstance(batch, TimelineBatch)
    return batch

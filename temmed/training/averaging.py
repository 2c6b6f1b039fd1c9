"""Averages of the weights over the steps of training."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(WeightAveraging):
    """An exponential moving average of the weights, which is what is validated, kept as the best, tested and loaded.

    A checkpoint holds the average as its weights, and beside them those that are trained, to go on from. Lightning's
    own (`EMAWeightAveraging`) computes decay · average + (1 − decay) · weight, which moves weights that never change
    by rounding; here the average takes a step towards the weight, which leaves frozen ones as they are.

    Args:
        decay: share of the average that stays at each step; it goes over about the last 1 / (1 − decay) steps.
    """

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the average to where the model is by now; it was made before the model was moved."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)

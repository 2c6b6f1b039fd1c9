"""What the benchmarks of training share: a model with its data from the configuration, and one timed epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from temmed.config.paths import conf_dir
from temmed.config.schema import register
from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitting import fit
from temmed.data.settings import DataSettings, find_split, find_timeline
from temmed.training.module import TimelineModule


class Clock(pl.Callback):
    """Seconds from the first batch of an epoch to its end."""

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop."""
        self.seconds = time.perf_counter() - self.started


def build(overrides: Sequence[str], cache: Path) -> tuple[TimelineModule, TimelineDataModule]:
    """The model and the data that ``train.py`` would make of these overrides."""
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [*overrides, f"paths.cache={cache}"])
    settings = DataSettings(**OmegaConf.to_container(config.data, resolve=True))  # type: ignore[arg-type]
    timeline = find_timeline(settings, cache)
    split = find_split(timeline, settings)
    fitted = fit(timeline, split, settings.size, settings.windows, settings.steps)
    module = TimelineModule(
        OmegaConf.to_container(config.model, resolve=True),  # type: ignore[arg-type]
        fitted.to_dict(),
        {"tasks": []},
        instantiate(config.optimizer),
        instantiate(config.scheduler),
    )
    return module, TimelineDataModule(timeline, split, settings, fitted, cache=cache)


def epoch_seconds(module: TimelineModule, **data: Any) -> float:
    """Seconds of one epoch of training, start-up and validation not counted."""
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[clock],
        limit_val_batches=0,
        gradient_clip_val=1.0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, **data)
    return clock.seconds

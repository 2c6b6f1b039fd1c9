"""The LightningDataModule: from a timeline folder to loaders of batches."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from temmed.data.batching import Budget, plan
from temmed.data.caches.features import FeatureStore
from temmed.data.caches.images import CacheImages, open_pixels
from temmed.data.collate import Collator
from temmed.data.dataset import Inputs, SequenceDataset
from temmed.data.fitted import Fitted
from temmed.data.loader import Caught, CaughtCollator, TimelineLoader
from temmed.data.pixels import Pixels
from temmed.data.records import Record, build_records
from temmed.data.samplers import EpochBatchSampler, WindowLoader
from temmed.data.settings import DataSettings, no_questions
from temmed.data.streaming.order import ShardOrder
from temmed.data.streaming.reading import ShardedFiles
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split

if TYPE_CHECKING:
    from temmed.data.augment import Augmentation

_LOG = logging.getLogger(__name__)


class TimelineDataModule(pl.LightningDataModule):
    """Loaders of the three subsets of a timeline.

    Args:
        timeline: the data.
        split: who owns what.
        settings: the ``data`` group.
        fitted: from `fit`, or from a checkpoint.
        seed: of the order of batches and of position dropout.
        features: of a frozen backbone, in place of pixels.
        cache: the folder of the caches that pixels may be kept in.
        once: each image is read once at most, so that no cache is built.
        written: reports are targets of the model.
    """

    def __init__(
        self,
        timeline: Timeline,
        split: Split,
        settings: DataSettings,
        fitted: Fitted,
        seed: int = 0,
        features: FeatureStore | None = None,
        cache: Path | None = None,
        once: bool = False,
        written: bool = False,
    ) -> None:
        super().__init__()
        self.augmentation: Augmentation | None = None
        if settings.augment and any(settings.augment.values()):
            from temmed.data.augment import Augmentation  # MONAI takes a while to load

            if settings.cache_features or features is not None:
                raise InputError(
                    "random changes of images, or stored features of unchanged ones",
                    "both",
                    "data.augment and data.cache_features",
                    "Set data/augment=none, or data.cache_features=false.",
                )
            self.augmentation = Augmentation.of(settings.augment, fitted)
        self.timeline, self.data_split, self.settings = timeline, split, settings
        self.fitted, self.seed, self.features = fitted, seed, features
        self.cache, self.once, self.written = cache, once, written
        self._records: dict[str, list[Record]] = {}
        self._datasets: dict[tuple[str, bool], SequenceDataset] = {}
        self._training: WindowLoader | None = None
        self._place: Mapping[str, Any] | None = None

    def prepare_data(self) -> None:
        """Build the cache of images, if there is to be one.

        Raises:
            InputError: images cannot be read, or there is no space for a cache.
        """
        if self.features is None:
            self.pixels  # noqa: B018  # opened, and so built, now

    @cached_property
    def pixels(self) -> Pixels:
        """Where images are taken from when there are no features.

        Raises:
            InputError: images cannot be read, or there is no space for a cache.
        """
        mode = cast(CacheImages, self.settings.cache_images if self.settings.inputs != "text" else "never")
        return open_pixels(self.timeline, self.fitted, self.cache, mode, self.once)

    def records(self, subset: str) -> list[Record]:
        """The sequences of a subset with their questions.

        Raises:
            InputError: the subset has no question.
        """
        if subset not in self._records:
            records = build_records(
                self.timeline,
                self.data_split,
                subset,
                self.fitted,
                needs_reports=self.settings.reports != "none",
                needs_written=self.written,
            )
            if not records:
                raise no_questions(self.timeline, subset, self.data_split)
            self._records[subset] = records
        return self._records[subset]

    def dataset(self, subset: str, training: bool = False) -> SequenceDataset:
        """The data set of a subset; with position dropout, random changes and question sampling if it is for training.

        Raises:
            InputError: the subset has no question.
        """
        key = (subset, training)
        if key not in self._datasets:
            self._datasets[key] = SequenceDataset(
                self.records(subset),
                self.features or self.pixels,
                len(self.fitted.sources),
                inputs=cast(Inputs, self.settings.inputs),
                reports=cast(Any, self.settings.reports),
                position_dropout=self.settings.position_dropout if training else 0.0,
                max_questions=self.settings.max_questions if training else None,
                seed=self.seed,
                augmentation=self.augmentation if training else None,
                stride=self.settings.stride,
                window=self.settings.window if training else None,
            )
            if training and self.settings.window is not None:
                self._check_window(self._datasets[key], self.settings.window)
        return self._datasets[key]

    def _check_window(self, dataset: SequenceDataset, window: int) -> None:
        """Say which share of the questions windows leave out, and refuse them if it is all."""
        fit, asked = dataset.questions_in_windows()
        if not fit:
            raise InputError(
                "windows in which a question can be answered",
                f"none for any of {asked} questions: what each needs spans more than {window} positions",
                "data.window",
                "Choose longer windows, or null for whole sequences.",
            )
        if fit < asked:
            _LOG.warning(
                "%d of %d questions are not trained on: what they need spans more than data.window=%d positions.",
                asked - fit,
                asked,
                window,
            )

    def loader(self, subset: str, training: bool = False) -> DataLoader:
        """Batches of a subset; shuffled for training, else sorted by size.

        A probe that sees one position at a time has several views of a sequence, each with the few questions asked
        there. Its batch holds the views of as many sequences as that of a model that sees them whole, on average, so
        that it asks about as many questions in a batch, and takes about as many steps in an epoch.

        Raises:
            InputError: there are more processes than items.
        """
        dataset = self.dataset(subset, training)
        sizes, budget = dataset.sizes, self._budget(dataset)
        if alone := budget.too_large(sizes):
            _LOG.warning(
                "%d of the %d sequences of %s exceed data.frames_per_batch or data.pairs_per_batch by themselves: each "
                "stands alone in its batch.",
                alone,
                len(dataset),
                subset,
            )
        trainer = self.trainer
        processes = trainer.world_size if trainer is not None else 1
        if len(dataset) < processes:
            raise InputError(
                f"a sequence of the {subset} subset for each of {processes} processes",
                str(len(dataset)),
                "trainer.devices",
                "Use fewer processes, or a larger share of the patients in data.split.fractions.",
            )
        if not training:
            # Every process has something to validate.
            budget = replace(budget, items=min(budget.items, len(dataset) // processes))
        sampler = EpochBatchSampler(
            sizes,
            budget,
            shuffle=training,
            seed=self.seed,
            rank=trainer.global_rank if trainer is not None else 0,
            world_size=processes,
            groups=dataset.groups,
            shards=self._shard_order(dataset),
        )
        workers = self.settings.num_workers
        return TimelineLoader(
            Caught(dataset),
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=CaughtCollator(Collator(self.settings.reports)),
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context="spawn" if workers else None,
        )

    def _budget(self, dataset: SequenceDataset) -> Budget:
        """What a batch may hold; of a probe, so many views that there are about as many batches as of sequences."""
        settings = self.settings
        budget = Budget(settings.batch_size, settings.frames_per_batch, settings.pairs_per_batch)
        if settings.inputs == "all":
            return budget
        batches = len(plan(np.array(dataset.whole_sizes), budget, np.random.default_rng(self.seed)))
        return Budget(max(1, round(len(dataset) / batches)))

    def _shard_order(self, dataset: SequenceDataset) -> ShardOrder | None:
        """The order that reads shard by shard, if the images come from shards."""
        files = self.timeline.files
        if self.features is not None or not isinstance(files, ShardedFiles):
            return None
        return ShardOrder([files.shard_of(dataset.records[view.record].sequence_id) for view in dataset.views])

    def train_dataloader(self) -> WindowLoader:
        """Shuffled batches that know their accumulation window, after the place of the checkpoint if there is one.

        Raises:
            InputError: the checkpoint is of a run with another order of batches.
        """
        loader = WindowLoader(
            self.loader("train", training=True), self.trainer.accumulate_grad_batches if self.trainer else 1
        )
        if self.trainer is not None:
            loader.sampler.set_epoch(self.trainer.current_epoch)
        if self._place is not None:
            loader.load_state_dict(self._place)
        self._training = loader
        return loader

    def state_dict(self) -> dict[str, Any]:
        """The place in the order of training batches; Lightning puts it into every checkpoint."""
        return {} if self._training is None else self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the place until the loader is made: Lightning's own way to a loader misses one that is made early."""
        self._place = state_dict or None

    def val_dataloader(self) -> DataLoader:
        """Batches of the val subset."""
        return self.loader("val")

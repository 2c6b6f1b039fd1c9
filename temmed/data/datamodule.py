"""The LightningDataModule: from a timeline folder to loaders of batches."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from temmed.data.collate import Collator
from temmed.data.dataset import Inputs, SequenceDataset
from temmed.data.features import FeatureStore
from temmed.data.fitted import Fitted, Source, ValueScale, training_texts
from temmed.data.images import DecodedPixels, ImageSource
from temmed.data.loader import Caught, CaughtCollator, TimelineLoader
from temmed.data.records import Record, build_records
from temmed.data.samplers import EpochBatchSampler, WindowLoader
from temmed.data.streaming.opening import open_timeline
from temmed.data.streaming.order import ShardOrder
from temmed.data.streaming.reading import ShardedFiles
from temmed.data.streaming.sizes import read_size
from temmed.data.tokenizer import Tokenizer
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.recipe import as_override
from temmed.timelines.splits import Recipe, Split, load_split
from temmed.timelines.splits import find_split as find

_LOG = logging.getLogger(__name__)
#: Sequences from which the mean and deviation of the channels are estimated.
_SAMPLE = 200
#: Most slices of a volume that a model is given.
_MOST_SLICES = 32


@dataclass
class DataSettings:
    """The ``data`` group, resolved. `conf/data/mri.yaml` explains each."""

    root: str | None = None
    modality: str | None = "mri"
    name: str = "synthetic_mri"
    patients: int | None = None
    size: int = 64
    spatial_dims: int = 2
    windows: Mapping[str, Any] | None = None
    seed: int = 0
    overwrite: bool = False
    split: Mapping[str, Any] = field(default_factory=lambda: {"by": "patient", "seed": 0, "fractions": [0.6, 0.1, 0.3]})
    inputs: str = "all"
    reports: str = "none"
    batch_size: int = 16
    num_workers: int = 0
    max_questions: int | None = None
    position_dropout: float = 0.1
    cache_features: bool = False
    stream_cache: str = "50GB"


def find_timeline(settings: DataSettings, cache: Path) -> Timeline:
    """Open the folder or URL of the settings, or build the synthetic one they describe, once, under ``cache``.

    Raises:
        InputError: there is no such folder, or it is not valid.
    """
    if settings.root is not None:
        return open_timeline(settings.root, cache, read_size(settings.stream_cache, "data.stream_cache"))
    from temmed.timelines.synthetic.generate import VERSION, generate

    if settings.modality is None:
        raise InputError(
            "data.root or data.modality", "neither", "data", "Name your folder: data=folder data.root=DIR."
        )
    patients = settings.patients or 3200
    name = f"{settings.modality}{settings.spatial_dims}d-{patients}x{settings.size}-seed{settings.seed}-v{VERSION}"
    root = cache / name
    if root.exists() and not settings.overwrite:
        return Timeline.open(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    return generate(
        root,
        modality=settings.modality,
        patients=patients,
        seed=settings.seed,
        size=settings.size,
        spatial_dims=settings.spatial_dims,
        overwrite=settings.overwrite,
    )


def fit(timeline: Timeline, split: Split, size: int, windows: Mapping[str, Any] | None = None) -> Fitted:
    """Fit vocabulary, channels, normalisation and the scale of values to the train subset.

    Args:
        timeline: the data.
        split: whose train subset is used, and nothing else.
        size: images are resized to ``size`` pixels along rows and columns.
        windows: for a modality, the windows that become channels.

    Raises:
        InputError: the train subset has no images.
    """
    owned = split.sequences("train")
    last = dict(zip(owned["sequence_id"], owned["last_asked"], strict=True))
    texts = [timeline.table("statements"), timeline.table("reports")]
    # Comparison with the NaN of other subsets' sequences is false.
    of_train = [table[table["position"] <= table["sequence_id"].map(last).astype(float)]["text"] for table in texts]
    events = timeline.table("events")
    questions = split.questions(timeline, "train")
    tokenizer = Tokenizer.fit(
        text
        for column in of_train
        for text in training_texts(questions, events[events["sequence_id"].isin(last)], column)
    )
    values = questions["value"].to_numpy(dtype=float, na_value=np.nan)
    sources, spatial, moments = _look_at_images(ImageSource(timeline, windows), last, size)
    mean, deviation = _normalisation(moments)
    return Fitted(tokenizer, sources, mean, deviation, spatial, ValueScale.fit(values), dict(windows or {}))


def _look_at_images(
    source: ImageSource, last: Mapping[str, int], size: int
) -> tuple[tuple[Source, ...], tuple[int, ...], dict[str, np.ndarray]]:
    """Sources, size, and for each channel the sum, the sum of squares and the number of the pixels of a sample."""
    found: set[Source] = set()
    moments: dict[str, np.ndarray] = {}
    spatial: tuple[int, ...] | None = None
    for sequence in sorted(last)[:: max(1, len(last) // _SAMPLE)]:
        for images in source.read(sequence, range(last[sequence] + 1)).values():
            for kind, image in images.items():
                found.add(kind)
                spatial = spatial or (*(min(n, _MOST_SLICES) for n in image.shape[:-2]), size, size)
                for channel, window in kind.channels:
                    flat = (image if window is None else window.apply(image)).ravel().astype(np.float64)
                    sums = np.array([flat.sum(), (flat**2).sum(), flat.size])
                    moments[channel] = moments.get(channel, 0) + sums
    if spatial is None:
        raise InputError(
            "images in the train subset", "none", str(source.root), "Check the images table and the split."
        )
    return tuple(sorted(found)), spatial, moments


def _normalisation(moments: Mapping[str, np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the channels, in order of their names."""
    totals = [moments[channel] for channel in sorted(moments)]
    mean = tuple(float(total / n) for total, _, n in totals)
    deviation = tuple(float(np.sqrt(max(square / n - (total / n) ** 2, 0.0))) or 1.0 for total, square, n in totals)
    return mean, deviation


class TimelineDataModule(pl.LightningDataModule):
    """Loaders of the three subsets of a timeline.

    Args:
        timeline: the data.
        split: who owns what.
        settings: the ``data`` group.
        fitted: from `fit`, or from a checkpoint.
        seed: of the order of batches and of position dropout.
        features: of a frozen backbone, in place of pixels.
    """

    def __init__(
        self,
        timeline: Timeline,
        split: Split,
        settings: DataSettings,
        fitted: Fitted,
        seed: int = 0,
        features: FeatureStore | None = None,
    ) -> None:
        super().__init__()
        self.timeline, self.data_split, self.settings = timeline, split, settings
        self.fitted, self.seed, self.features = fitted, seed, features
        self._records: dict[str, list[Record]] = {}
        self._datasets: dict[tuple[str, bool], SequenceDataset] = {}

    def records(self, subset: str) -> list[Record]:
        """The sequences of a subset with their questions.

        Raises:
            InputError: the subset has no question.
        """
        if subset not in self._records:
            records = build_records(
                self.timeline, self.data_split, subset, self.fitted, needs_reports=self.settings.reports != "none"
            )
            if not records:
                raise no_questions(self.timeline, subset, self.data_split)
            self._records[subset] = records
        return self._records[subset]

    def dataset(self, subset: str, training: bool = False) -> SequenceDataset:
        """The data set of a subset; with position dropout and question sampling if it is for training.

        Raises:
            InputError: the subset has no question.
        """
        key = (subset, training)
        if key not in self._datasets:
            self._datasets[key] = SequenceDataset(
                self.records(subset),
                self.features or DecodedPixels(ImageSource(self.timeline, self.fitted.windows), self.fitted),
                len(self.fitted.sources),
                inputs=cast(Inputs, self.settings.inputs),
                reports=cast(Any, self.settings.reports),
                position_dropout=self.settings.position_dropout if training else 0.0,
                max_questions=self.settings.max_questions if training else None,
                seed=self.seed,
            )
        return self._datasets[key]

    def loader(self, subset: str, training: bool = False) -> DataLoader:
        """Batches of a subset; shuffled for training, else sorted by size.

        A probe that sees one position at a time has several views of a sequence, each with the few questions asked
        there. Its batch holds the views of ``batch_size`` sequences on average, so that it asks as many questions in
        a batch, and takes as many steps in an epoch, as a model that sees whole sequences.
        """
        dataset = self.dataset(subset, training)
        views = len(dataset) / len(dataset.records)
        trainer = self.trainer
        distributed = trainer is not None and trainer.world_size > 1
        sampler = EpochBatchSampler(
            dataset.sizes,
            round(self.settings.batch_size * views),
            shuffle=training,
            seed=self.seed,
            rank=trainer.global_rank if distributed and trainer else 0,
            world_size=trainer.world_size if distributed and trainer else 1,
            order=self._shard_order(dataset),
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

    def _shard_order(self, dataset: SequenceDataset) -> ShardOrder | None:
        """The order that reads shard by shard, if the images come from shards."""
        files = self.timeline.files
        if self.features is not None or not isinstance(files, ShardedFiles):
            return None
        return ShardOrder([files.shard_of(dataset.records[view.record].sequence_id) for view in dataset.views])

    def train_dataloader(self) -> WindowLoader:
        """Shuffled batches that know their accumulation window."""
        loader = WindowLoader(
            self.loader("train", training=True), self.trainer.accumulate_grad_batches if self.trainer else 1
        )
        if self.trainer is not None:
            loader.sampler.set_epoch(self.trainer.current_epoch)
        return loader

    def val_dataloader(self) -> DataLoader:
        """Batches of the val subset."""
        return self.loader("val")


def no_questions(timeline: Timeline, subset: str, split: Split | None) -> InputError:
    """The refusal to train or test on a subset without questions; without a split, on a folder without any."""
    root = timeline.root
    if split is None or not timeline.has("questions"):
        return InputError(
            "questions to train on",
            "images only (the folder has no questions table)",
            str(root),
            "Import again with --questions FILE.csv; docs/own-data.md shows its layout.",
        )
    return InputError(
        f"questions in the {subset} subset",
        f"none ({len(timeline.table('questions'))} in all subsets together)",
        f"{root}, split {split.name}",
        "Add patients or questions, or choose another data.split.",
    )


def require_questions(timeline: Timeline, split: Split, *subsets: str) -> None:
    """Refuse a subset that owns no question."""
    for subset in subsets:
        if split.questions(timeline, subset).empty:
            raise no_questions(timeline, subset, split)


def find_split(timeline: Timeline, settings: DataSettings) -> Split:
    """The split of the settings: loaded if it was written before, else made and not yet written.

    Raises:
        InputError: the settings contradict each other or the data, or the written split is of other data.
    """
    recipe = Recipe.of(settings.split)
    recipe.check(as_override)
    split = find(timeline, recipe)
    whole = split if recipe.few_shot is None else split.companions[0]
    if recipe.by in ("site", "file") and (patients := whole.left_out(timeline)["patient_id"].nunique()):
        _LOG.warning("%d patients are wholly or partly in no subset of the split %s.", patients, split.name)
    return split


def load_named_split(timeline: Timeline, name: str) -> Split:
    """A split that lies in the timeline's folder."""
    return load_split(timeline.root, name, timeline)

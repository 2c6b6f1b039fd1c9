"""The LightningDataModule: from a timeline folder to loaders of batches."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from temmed.data.batching import Budget
from temmed.data.caches.features import FeatureStore
from temmed.data.caches.images import CacheImages, open_pixels
from temmed.data.collate import Collator
from temmed.data.dataset import Inputs, SequenceDataset
from temmed.data.fitted import Fitted, Source, ValueScale, training_texts
from temmed.data.images import ImageSource, PreparedImages
from temmed.data.loader import Caught, CaughtCollator, TimelineLoader
from temmed.data.pixels import Pixels
from temmed.data.preparation import Preparation
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

if TYPE_CHECKING:
    from temmed.data.augment import Augmentation

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
    size: int | list[int] | None = 64
    spatial_dims: int = 2
    windows: Mapping[str, Any] | None = None
    spacing: float | list[float] | None = None
    slices: int | None = None
    register: str | None = None
    augment: Mapping[str, Any] | None = None
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
    frames_per_batch: int | None = None
    pairs_per_batch: int | None = None
    stride: int = 1
    window: int | None = None
    cache_images: str = "auto"

    @property
    def steps(self) -> Preparation:
        """What images go through, but for their size, which the data has a part in."""
        spacing = (self.spacing,) if isinstance(self.spacing, int | float) else self.spacing
        return Preparation(self.register, None if spacing is None else tuple(map(float, spacing)), self.slices)


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
    if not isinstance(settings.size, int | None):
        raise InputError("one number, or null", str(settings.size), "data.size", "Built-in images are square.")
    drawn = "own" if settings.size is None else settings.size
    name = f"{settings.modality}{settings.spatial_dims}d-{patients}x{drawn}-seed{settings.seed}-v{VERSION}"
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


def fit(
    timeline: Timeline,
    split: Split,
    size: int | Sequence[int] | None,
    windows: Mapping[str, Any] | None = None,
    steps: Preparation | None = None,
    motions: Path | None = None,
) -> Fitted:
    """Fit vocabulary, channels, normalisation and the scale of values to the train subset.

    Args:
        timeline: the data.
        split: whose train subset is used, and nothing else.
        size: of the images a model is given: along rows and columns, or along every axis; ``None`` leaves each
            sequence its own.
        windows: for a modality, the windows that become channels.
        steps: what else images go through; its own size is not looked at.
        motions: a folder that keeps how follow-ups are moved onto the first visit.

    Raises:
        InputError: the train subset has no images, or they do not allow the steps.
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
    source = ImageSource(timeline, windows)
    imaged = [key for key in sorted(last) if source.positions(key) and source.positions(key)[0] <= last[key]]
    if not imaged:
        raise InputError(
            "images in the train subset", "none", str(source.root), "Check the images table and the split."
        )
    steps = replace(steps or Preparation(), size=None)
    first = PreparedImages(source, steps, motions).size(imaged[0])
    if size is not None:
        steps = replace(steps, size=_given_size(size, first, steps))
    moments = _look_at_images(PreparedImages(source, steps, motions), {key: last[key] for key in imaged})
    sources = sorted(key for key in moments if isinstance(key, Source))
    mean, deviation = _normalisation([moments[name] for name in sorted({n for s in sources for n, _ in s.channels})])
    return Fitted(
        tokenizer,
        tuple(sources),
        mean,
        deviation,
        steps.size or first,
        ValueScale.fit(values),
        dict(windows or {}),
        steps,
        _normalisation([moments[kind] for kind in sources])[1],
    )


def _given_size(size: int | Sequence[int], first: tuple[int, ...], steps: Preparation) -> tuple[int, ...]:
    """The size that was asked for, along every axis."""
    if not isinstance(size, int):
        if len(size) != len(first):
            raise InputError(
                f"{len(first)} numbers for images of {len(first)} dimensions",
                str(len(size)),
                "data.size",
                "Give one number for each axis, or a single one.",
            )
        return tuple(size)
    if len(first) == 3 and steps.spacing is not None:
        raise InputError(
            "[slices, rows, columns]",
            str(size),
            "data.size",
            "With data.spacing volumes are cut or padded and not resized: say how many slices are kept, or set null.",
        )
    return (*(min(n, _MOST_SLICES) for n in first[:-2]), size, size)


def _look_at_images(images: PreparedImages, last: Mapping[str, int]) -> dict[str | Source, np.ndarray]:
    """Sum, sum of squares and number of the pixels in a sample of the sequences, by channel and by source."""
    moments: dict[str | Source, np.ndarray] = {}

    def add(key: str | Source, image: np.ndarray) -> None:
        flat = image.ravel().astype(np.float64)
        moments[key] = moments.get(key, 0) + np.array([flat.sum(), (flat**2).sum(), flat.size])

    for sequence in sorted(last)[:: max(1, len(last) // _SAMPLE)]:
        for pixels in images.read(sequence, range(last[sequence] + 1)).values():
            for kind, image in pixels.items():
                add(kind, image)
                for channel, window in kind.channels:
                    if window is not None:
                        add(channel, window.apply(image))
    for kind in [key for key in moments if isinstance(key, Source) and not key.windows]:
        moments[kind.channel] = moments[kind]
    return moments


def _normalisation(moments: Sequence[np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation from sums, sums of squares and numbers."""
    mean = tuple(float(total / n) for total, _, n in moments)
    deviation = tuple(float(np.sqrt(max(square / n - (total / n) ** 2, 0.0))) or 1.0 for total, square, n in moments)
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
        cache: the folder of the caches that pixels may be kept in.
        once: each image is read once at most, so that no cache is built.
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
        self.cache, self.once = cache, once
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
                self.timeline, self.data_split, subset, self.fitted, needs_reports=self.settings.reports != "none"
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
        there. Its batch holds the views of ``batch_size`` sequences on average, so that it asks as many questions in
        a batch, and takes as many steps in an epoch, as a model that sees whole sequences.

        Raises:
            InputError: there are more processes than items.
        """
        dataset = self.dataset(subset, training)
        budget = self._budget(dataset)
        if alone := budget.too_large(dataset.sizes):
            _LOG.warning(
                "%d of the %d sequences of %s exceed data.frames_per_batch or data.pairs_per_batch by themselves: each "
                "stands alone in its batch.",
                alone,
                len(dataset),
                subset,
            )
        trainer = self.trainer
        processes = trainer.world_size if trainer is not None else 1
        size = budget.items
        if len(dataset) < processes:
            raise InputError(
                f"a sequence of the {subset} subset for each of {processes} processes",
                str(len(dataset)),
                "trainer.devices",
                "Use fewer processes, or a larger share of the patients in data.split.fractions.",
            )
        if not training:
            size = min(size, len(dataset) // processes)  # every process has something to validate
        sampler = EpochBatchSampler(
            dataset.sizes,
            size,
            shuffle=training,
            seed=self.seed,
            rank=trainer.global_rank if trainer is not None else 0,
            world_size=processes,
            frames=budget.frames,
            pairs=budget.pairs,
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
        """What a batch may hold; of a probe, as many times as much as its views are more than the sequences."""
        settings = self.settings
        if settings.inputs == "all":
            return Budget(settings.batch_size, settings.frames_per_batch, settings.pairs_per_batch)
        whole = [(1, int(r.imaged.sum()), len(r.times) * len(r.questions)) for r in dataset.records]
        views = [(1, images, positions * questions) for positions, questions, images in dataset.sizes]
        shares = np.sum(views, axis=0) / np.sum(whole, axis=0)

        def scaled(bound: int, share: float) -> int:
            return max(1, round(bound * share))

        return Budget(
            scaled(settings.batch_size, shares[0]),
            None if settings.frames_per_batch is None else scaled(settings.frames_per_batch, shares[1]),
            None if settings.pairs_per_batch is None else scaled(settings.pairs_per_batch, shares[2]),
        )

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

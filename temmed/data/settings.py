"""The ``data`` group, and the timeline and the split that it names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temmed.data.preparation import Preparation
from temmed.data.streaming.opening import open_timeline
from temmed.data.streaming.sizes import read_size
from temmed.errors import InputError
from temmed.timelines.folder import Timeline
from temmed.timelines.recipe import as_override
from temmed.timelines.splits import Recipe, Split
from temmed.timelines.splits import find_split as find

_LOG = logging.getLogger(__name__)


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
    version: str | None = None
    fingerprint: str | None = None
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
        InputError: there is no such folder, it is not valid, or it is of another version or content than the settings
            pin.
    """
    timeline = _open_or_build(settings, cache)
    for key in ("version", "fingerprint"):
        pinned, found = getattr(settings, key), getattr(timeline.meta, key)
        if pinned is not None and not (found == pinned or (key == "fingerprint" and found.startswith(pinned))):
            raise InputError(
                f"data of the {key} {pinned}",
                found or "none",
                f"data.{key}, {timeline.root}",
                f"Use the data that is meant; or, to take this one, set data.{key} to its own or to null.",
            )
    return timeline


def _open_or_build(settings: DataSettings, cache: Path) -> Timeline:
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

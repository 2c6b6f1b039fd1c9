"""What a configuration may hold: the keys, their types, the values they may take.

The dataclasses are registered with Hydra, which checks keys and types while it composes. The YAML files are the only
place for defaults, so no field has one here. What a type cannot say stands in the field's metadata and is checked by
:mod:`temmed.config.check`. Nodes that are built by ``_target_`` are open here: their keys are the arguments of the
class (:mod:`temmed.config.targets`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from temmed.timelines.recipe import DUPLICATES, RULES


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy beyond its type. Null is judged by the type alone.

    Args:
        minimum: smallest value allowed.
        above: the value must be greater than this.
        below: the value must be smaller than this.
        choices: the only values allowed.
        pattern: regular expression that the whole text must match.
        meaning: how the pattern is put into words.
        shares: a list of positive numbers, as many as this, that sum to 1.
        exists: the path must lead to a ``file`` or a ``folder``, or be a URL in place of a folder.
        word: what may stand instead of a file.
        divides: the key of a whole number of which the value must be a divisor.
        windows: the value gives windows by modality.
        axes: the value is a number of this type, or a list of 2 or 3, one for each axis of an image; those of rows and
            columns must satisfy the rest.
    """

    minimum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    pattern: str = ""
    meaning: str = ""
    shares: int = 0
    exists: str = ""
    word: str = ""
    divides: str = ""
    windows: bool = False
    axes: type[float] | None = None


def rule(**conditions: Any) -> dict[str, Rule]:
    """Metadata of a field whose value must satisfy ``Rule(**conditions)``."""
    return {"rule": Rule(**conditions)}


#: Names become parts of paths.
NAME = {"pattern": r"[A-Za-z0-9][A-Za-z0-9._+-]*", "meaning": "letters, digits and . _ + -, and no / or space"}
#: Beginnings of fingerprints.
DIGEST = {"pattern": r"[0-9a-f]{8,64}", "meaning": "8 or more digits of a fingerprint"}
#: Numbers of bytes.
SIZE = {"pattern": r"\d+(\.\d+)? ?([kKmMgGtT]?[bB])?", "meaning": "a number of bytes, such as 64MB or 50GB"}


@dataclass
class SplitConfig:
    """How patients, or time, are divided into train, val and test."""

    by: str = field(default=MISSING, metadata=rule(choices=RULES))
    seed: int = field(default=MISSING, metadata=rule(minimum=0))
    fractions: list[float] = field(default=MISSING, metadata=rule(shares=3))
    stratify: list[str] = MISSING
    folds: int | None = MISSING
    fold: int | None = MISSING
    site: str | None = MISSING
    name: str | None = field(default=MISSING, metadata=rule(**NAME))
    together: str | None = field(default=MISSING, metadata=rule(exists="file", word=DUPLICATES))
    few_shot: int | None = MISSING
    few_shot_per: str | None = MISSING


@dataclass
class AugmentConfig:
    """Random changes of training images: transforms, each by ``_target_``."""

    shared: list[Any] = MISSING
    each: list[Any] = MISSING


@dataclass
class DataConfig:
    """A timeline folder, what of it the model sees, and how it is loaded."""

    root: str | None = field(default=MISSING, metadata=rule(exists="folder"))
    modality: str | None = MISSING
    name: str = field(default=MISSING, metadata=rule(**NAME))
    patients: int | None = field(default=MISSING, metadata=rule(minimum=1))
    size: Any = field(default=MISSING, metadata=rule(axes=int, minimum=8))
    spatial_dims: int = field(default=MISSING, metadata=rule(choices=(2, 3)))
    windows: dict[str, Any] | None = field(default=MISSING, metadata=rule(windows=True))
    spacing: Any = field(default=MISSING, metadata=rule(axes=float, above=0))
    slices: int | None = field(default=MISSING, metadata=rule(minimum=1))
    register: str | None = field(default=MISSING, metadata=rule(choices=("rigid", "affine")))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = field(default=MISSING, metadata=rule(minimum=0))
    version: str | None = MISSING
    fingerprint: str | None = field(default=MISSING, metadata=rule(**DIGEST))
    overwrite: bool = MISSING
    split: SplitConfig = field(default_factory=SplitConfig)
    inputs: str = field(default=MISSING, metadata=rule(choices=("all", "text", "asked_image", "prior_image")))
    reports: str = field(default=MISSING, metadata=rule(choices=("none", "past", "all")))
    batch_size: int = field(default=MISSING, metadata=rule(minimum=1))
    frames_per_batch: int | None = field(default=MISSING, metadata=rule(minimum=1))
    pairs_per_batch: int | None = field(default=MISSING, metadata=rule(minimum=1))
    num_workers: int = field(default=MISSING, metadata=rule(minimum=0))
    max_questions: int | None = field(default=MISSING, metadata=rule(minimum=1))
    stride: int = field(default=MISSING, metadata=rule(minimum=1))
    window: int | None = field(default=MISSING, metadata=rule(minimum=1))
    position_dropout: float = field(default=MISSING, metadata=rule(minimum=0.0, below=1.0))
    cache_features: bool = MISSING
    cache_images: str = field(default=MISSING, metadata=rule(choices=("auto", "always", "never")))
    stream_cache: str = field(default=MISSING, metadata=rule(**SIZE))


@dataclass
class ModelConfig:
    """The parts of the model."""

    name: str = field(default=MISSING, metadata=rule(**NAME))
    dim: int = field(default=MISSING, metadata=rule(minimum=1))
    backbone: dict[str, Any] = MISSING
    text: dict[str, Any] = MISSING
    temporal: dict[str, Any] = MISSING
    reader: dict[str, Any] = MISSING
    heads: dict[str, Any] = MISSING
    chunk: int | None = field(default=MISSING, metadata=rule(minimum=1))
    carry: str = field(default=MISSING, metadata=rule(choices=("exact", "detach")))
    previous_answers: dict[str, Any] = MISSING
    train: str = field(default=MISSING, metadata=rule(choices=("full", "outputs")))
    start_from: str | None = field(default=MISSING, metadata=rule(exists="file"))
    start_parts: list[str] = MISSING
    start_data: str = field(default=MISSING, metadata=rule(choices=("same", "other")))
    measure: dict[str, Any] | None = MISSING
    generative: dict[str, Any] | None = MISSING


@dataclass
class CompileConfig:
    """What of the model is compiled."""

    parts: list[str] = MISSING
    backend: str = MISSING
    dynamic: bool | None = MISSING


@dataclass
class PathsConfig:
    """Where runs and caches are written."""

    runs: str = MISSING
    cache: str = MISSING
    run: str = MISSING


@dataclass
class TrainConfig:
    """The root of ``train.yaml``."""

    seed: int = field(default=MISSING, metadata=rule(minimum=0))
    name: str = field(default=MISSING, metadata=rule(**NAME))
    tags: list[str] = MISSING
    ckpt_path: str | None = field(default=MISSING, metadata=rule(exists="file"))
    test: bool = MISSING
    find_lr: int | None = field(default=MISSING, metadata=rule(minimum=13))
    compile: CompileConfig = field(default_factory=CompileConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: dict[str, Any] = MISSING
    scheduler: dict[str, Any] = MISSING
    trainer: dict[str, Any] = MISSING
    callbacks: dict[str, Any] = MISSING
    logger: dict[str, Any] = MISSING
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class EvaluateDataConfig:
    """Which data to judge on; null stands for what the run was trained with."""

    root: str | None = field(default=MISSING, metadata=rule(exists="folder"))
    split: str | None = MISSING
    batch_size: int | None = field(default=MISSING, metadata=rule(minimum=1))
    num_workers: int = field(default=MISSING, metadata=rule(minimum=0))


@dataclass
class EvaluateConfig:
    """The root of ``evaluate.yaml``."""

    ckpt_path: str = field(default=MISSING, metadata=rule(exists="file"))
    subset: str = field(default=MISSING, metadata=rule(choices=("train", "val", "test")))
    out: str | None = MISSING
    maps: bool = MISSING
    data: EvaluateDataConfig = field(default_factory=EvaluateDataConfig)
    trainer: dict[str, Any] = MISSING
    paths: PathsConfig = field(default_factory=PathsConfig)


#: Rules for values inside ``_target_`` nodes, whose types are the business of the class.
TARGET_RULES: dict[str, Rule] = {
    "model.backbone.train": Rule(pattern=r"full|none|lora|last-[1-9]\d*", meaning="full, none, lora or last-N"),
    "model.text.heads": Rule(minimum=1, divides="model.dim"),
    "model.temporal.heads": Rule(minimum=1, divides="model.dim"),
    "model.temporal.layers": Rule(minimum=1),
    "model.temporal.kernel": Rule(minimum=2),
    "model.temporal.state_size": Rule(minimum=1),
    "model.temporal.horizon": Rule(minimum=1.0),
    "model.temporal.memory": Rule(minimum=1),
    "model.temporal.segment": Rule(minimum=1),
    "model.temporal.window": Rule(minimum=1),
    "model.reader.heads": Rule(minimum=3),
    "model.reader.head_dim": Rule(minimum=1),
    "model.reader.hidden": Rule(minimum=1),
    "model.reader.dropout": Rule(minimum=0.0, below=1.0),
    "model.previous_answers.heads": Rule(minimum=1, divides="model.dim"),
    "callbacks.average.decay": Rule(minimum=0.0, below=1.0),
    "trainer.max_epochs": Rule(minimum=1),
    "trainer.accumulate_grad_batches": Rule(minimum=1),
    "optimizer.lr": Rule(above=0.0),
    "optimizer.weight_decay": Rule(minimum=0.0),
    "scheduler.warmup": Rule(minimum=0.0, below=1.0),
}

#: Rules for values of each task head.
HEAD_RULES: dict[str, Rule] = {
    "beams": Rule(minimum=1),
    "longest": Rule(minimum=2),
    "vocabulary_size": Rule(minimum=258),
    "weight": Rule(minimum=0.0),
    "early_weight": Rule(minimum=0.0),
}

#: Arguments that the training code gives when it builds the node, so that the YAML cannot; ``*`` stands for any key.
GIVEN_AT_RUN_TIME: dict[str, frozenset[str]] = {
    "model.backbone": frozenset({"in_channels"}),
    "model.reader": frozenset({"places"}),
    "model.text": frozenset({"vocabulary"}),
    "model.heads.*": frozenset({"sizes"}),
    "model.generative": frozenset({"fitted", "backbone", "text"}),
    "trainer": frozenset({"callbacks", "logger"}),
}

#: Schema of each primary configuration.
SCHEMAS: dict[str, type] = {"train": TrainConfig, "evaluate": EvaluateConfig}


def register() -> None:
    """Make the schemas known to Hydra under the names that the primary configurations ask for."""
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=schema)

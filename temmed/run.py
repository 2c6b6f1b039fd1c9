"""One run from a composed configuration: data, training, predictions, scores. Above all other layers."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from temmed.data.caches.features import FeatureStore, open_features
from temmed.data.caches.images import CacheImages
from temmed.data.datamodule import TimelineDataModule
from temmed.data.fitting import fit
from temmed.data.fitting_heads import fit_heads
from temmed.data.followups import register_timeline
from temmed.data.images import ImageSource
from temmed.data.settings import DataSettings, find_split, find_timeline, no_questions, require_questions
from temmed.errors import InputError
from temmed.evaluation.scoring import Metrics, score, write_metrics
from temmed.files import atomic_write
from temmed.measuring.subset import answer_subset
from temmed.models.build import open_text
from temmed.predictions.tables import read_predictions, write_predictions
from temmed.scorecard import print_places, print_scores, shortened
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import Split, keep_split, load_split, reopen_split
from temmed.training.checkpoint import (
    AtomicCheckpointIO,
    LastCheckpoint,
    load_module,
    read_checkpoint,
    read_fitted,
    start_from,
)
from temmed.training.compiling import compile_parts
from temmed.training.course import check_settings, describe_place, go_on_with, read_course
from temmed.training.find_lr import draw, find_lr
from temmed.training.lineage import check_unseen, trainings
from temmed.training.module import TimelineModule
from temmed.training.predict import predict, that_exist
from temmed.training.quiet import without_noise
from temmed.training.record import describe_environment

_LOG = logging.getLogger(__name__)
#: What a run writes into its folder before its first checkpoint.
_WRITTEN = (
    "config.yaml",
    "run.json",
    "hparams.yaml",
    "metrics.csv",
    "train.log",
    "wandb",
    "events.out.tfevents.*",
    "checkpoints",
)


def train(config: DictConfig) -> dict[str, float]:
    """Train, then predict and score the test subset with the best checkpoint.

    A model that measures has nothing to train: it is applied to the test subset at once.

    Args:
        config: ``conf/train.yaml``, composed and checked.

    Returns:
        Metric name → value, of the test subset (of the last validation if ``test`` is false).

    Raises:
        InputError: the data cannot be used, or the checkpoint to resume from belongs to other data.
    """
    with without_noise(), _refusals():
        return _train(config) if config.model.measure is None else _measure(config)


def _train(config: DictConfig) -> dict[str, float]:
    pl.seed_everything(config.seed, workers=True, verbose=False)
    # Deterministic mode would fill every new tensor first, a tenth of a step on CPU, to catch reads of empty memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    settings = DataSettings(**_plain(config.data))
    timeline = find_timeline(settings, Path(config.paths.cache))
    if not timeline.has("questions"):
        raise no_questions(timeline, "train", None)
    split = find_split(timeline, settings)
    motions = _register(timeline, settings.register, config)
    model = _plain(config.model)
    model["text"], tokenizer = open_text(model["text"])
    fitted = fit(timeline, split, settings.size, settings.windows, settings.steps, motions, tokenizer)
    fitted = fit_heads(fitted, model["heads"], timeline, split, settings)
    other_data = model["start_data"] == "other"
    before: list[dict[str, Any]] = []
    if model["start_from"] is not None:
        start = read_checkpoint(model["start_from"])["hyper_parameters"]["provenance"]
        check_unseen(start, timeline, split, "test")
        before = trainings(start)
        if other_data:
            fitted = fitted.after(read_fitted(model["start_from"]))
    if settings.cache_features and fitted.native:
        raise InputError(
            "images of one size to keep features of", "data.size=null", "data.cache_features", "Set data.size=N."
        )
    questions = timeline.table("questions")
    provenance = {
        "dataset": {
            "name": timeline.meta.name,
            "fingerprint": timeline.meta.fingerprint,
            "root": timeline.files.address,
        },
        "split": split.record,
        "before": before,
        "data": _plain(config.data),
        "tasks": sorted(questions.loc[questions["choices"].notna(), "task"].unique().tolist()),
        "seed": int(config.seed),
    }
    module = TimelineModule(
        model, fitted.to_dict(), provenance, instantiate(config.optimizer), instantiate(config.scheduler)
    )
    if model["start_from"] is not None:
        start_from(module, model["start_from"], model["start_parts"], other_data)
    compile_parts(module.reasoner, **_plain(config.compile))
    former = None if config.ckpt_path is None else read_checkpoint(config.ckpt_path)
    if former is not None:
        check_same_data(former, timeline, split, config.ckpt_path)
        check_settings(former, settings, config.ckpt_path)
    caches = Path(config.paths.cache)
    written = "written" in module.reasoner.wanted
    data = TimelineDataModule(timeline, split, settings, fitted, seed=int(config.seed), cache=caches, written=written)
    require_questions(timeline, split, "train", "val", *(("test",) if config.test else ()))
    trainer = _trainer(config)
    if settings.cache_features:
        data.features = store_features(module, timeline, settings, caches)
    else:
        data.prepare_data()
    if config.find_lr is not None:
        return _suggest_lr(module, data, config)
    if former is not None:
        data.trainer = trainer
        data.load_state_dict(former[TimelineDataModule.__qualname__])
        data.train_dataloader()  # refuses another order of batches, as it would amid the training
    # Nothing is written before this line, so that a refusal leaves nothing behind.
    keep_split(split, timeline)
    folder = Path(config.paths.run)
    with _run_folder(folder):
        atomic_write(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        temporal = str(config.model.temporal["_target_"]).rsplit(".", 1)[-1]
        parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
        record = _record(config, temporal, parameters, timeline, split)
        if former is not None:
            record["resumed_after"] = describe_place(former)
            _take_over(former, config.ckpt_path, trainer)
        atomic_write(folder / "run.json", json.dumps(record, indent=2))
        started, computed = time.perf_counter(), time.process_time()
        _fit(trainer, module, data, config.ckpt_path)
        record["train_seconds"] = round(time.perf_counter() - started, 2)
        # Of all threads of this process; on a shared machine these say more than the clock.
        record["train_processor_seconds"] = round(time.process_time() - computed, 2)
        record["epochs"] = trainer.current_epoch
        atomic_write(folder / "run.json", json.dumps(record, indent=2))
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if config.test and trainer.is_global_zero:
            trained = load_module(best) if best else module.eval()
            metrics = judge(trained, timeline, split, settings, "test", folder, config)
            scores = {name: entry["value"] for name, entry in metrics.items() if name.count("/") == 2}
            for logger in trainer.loggers:
                logger.log_metrics(scores, step=trainer.global_step)
            logged = {name: float(entry["value"]) for name, entry in metrics.items()}
        _finish(trainer)
    if trainer.is_global_zero:
        places: dict[str, str | Path] = {"Run folder": folder}
        if best:
            places["Checkpoint"] = Path(best)
        if config.test:
            places |= {"All scores": folder / "metrics.json", "Next": f"temmed compare {shortened(folder.parent)}"}
        print_places(places)
    return logged


def _suggest_lr(module: TimelineModule, data: TimelineDataModule, config: DictConfig) -> dict[str, float]:
    """Print a learning rate and draw how it was found; nothing is trained, and nothing else is written."""
    test = find_lr(module, data, config.find_lr, partial(instantiate, config.trainer))
    rate, plot = test.rates[test.best], Path(config.paths.run) / "find_lr.svg"
    plot.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(plot, draw(test))
    print(f"Where the loss falls fastest: optimizer.lr={rate:.2g}")
    print_places({"Loss by learning rate": plot})
    return {"lr": rate}


def _register(timeline: Timeline, how: str | None, config: DictConfig) -> Path:
    """Find how follow-ups are moved onto the first visit, if they are; the folder where it is kept."""
    folder = Path(config.paths.cache) / "registration"
    if how is not None:
        register_timeline(timeline, ImageSource(timeline), how, folder)
    return folder


def _measure(config: DictConfig) -> dict[str, float]:
    """Apply a model that does not learn; its run folder has no checkpoint."""
    for key, found, needed in (("data.inputs", config.data.inputs, "all"), ("ckpt_path", config.ckpt_path, None)):
        if found != needed:
            raise InputError(
                f"{'null' if needed is None else needed} for a model that measures", repr(found), key, "Leave it out."
            )
    measurers = instantiate(config.model.measure, _convert_="all")
    settings = DataSettings(**_plain(config.data))
    timeline = find_timeline(settings, Path(config.paths.cache))
    split = find_split(timeline, settings)
    folder = Path(config.paths.run)
    started = time.perf_counter()
    tables = None
    if config.test:
        require_questions(timeline, split, "test")
        answers, events = answer_subset(timeline, split, "test", measurers)
        tables = {"answers": answers, "events": events}
    # Nothing is written before this line, so that a refusal or Ctrl-C leaves nothing behind.
    keep_split(split, timeline)
    folder.mkdir(parents=True, exist_ok=True)
    plain = _plain(config)
    used = {key: plain[key] for key in ("seed", "name", "tags", "test", "data", "paths")}
    used["model"] = {key: plain["model"][key] for key in ("name", "measure")}
    atomic_write(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(used)))
    record = _record(config, "none", 0, timeline, split)
    record |= {"train_seconds": 0.0, "predict_seconds": round(time.perf_counter() - started, 2)}
    atomic_write(folder / "run.json", json.dumps(record, indent=2))
    if tables is None:
        print_places({"Run folder": folder})
        return {}
    metrics = _score(tables, timeline, split, "test", folder)
    places: dict[str, str | Path] = {"Run folder": folder, "All scores": folder / "metrics.json"}
    print_places({**places, "Next": f"temmed compare {shortened(folder.parent)}"})
    return {name: float(entry["value"]) for name, entry in metrics.items()}


def evaluate(config: DictConfig) -> dict[str, float]:
    """Predict with a checkpoint and score; on the run's own test subset this gives the run's own numbers.

    Args:
        config: ``conf/evaluate.yaml``, composed and checked.

    Raises:
        InputError: the data or the split differ from those of the checkpoint, unless they were named on purpose.
    """
    with without_noise(), _refusals():
        return _evaluate(config)


def _evaluate(config: DictConfig) -> dict[str, float]:
    content = read_checkpoint(config.ckpt_path)
    module = load_module(config.ckpt_path)
    provenance = content["hyper_parameters"]["provenance"]
    saved = provenance["data"]
    settings = DataSettings(**saved)
    settings.num_workers = config.data.num_workers
    if config.data.batch_size is not None:
        settings.batch_size, settings.frames_per_batch, settings.pairs_per_batch = config.data.batch_size, None, None
    settings.cache_features, settings.overwrite = False, False
    settings.root = config.data.root or provenance["dataset"]["root"]
    settings.version = settings.fingerprint = None  # the data are compared with the checkpoint's below
    timeline = find_timeline(settings, Path(config.paths.cache))
    if config.data.split is not None:
        split = load_split(timeline.root, config.data.split, timeline)
    else:
        split = reopen_split(timeline, provenance["split"])
    elsewhere = config.data.root is not None and config.data.split is not None
    if not elsewhere:
        check_same_data(content, timeline, split, config.ckpt_path)
    else:
        check_unseen(provenance, timeline, split, config.subset)
    _register(timeline, module.fitted.preparation.register, config)
    run = Path(config.ckpt_path).absolute().parent.parent
    folder = Path(config.out) if config.out is not None else run / "evaluations" / config.subset
    module.explain = config.maps
    metrics = judge(module, timeline, split, settings, config.subset, folder, config)
    places = {"Predictions": folder / "predictions" / config.subset, "All scores": folder / "metrics.json"}
    print_places({**places, "Next": f"temmed compare {shortened(run.parent)}"} if config.subset == "test" else places)
    return {name: float(entry["value"]) for name, entry in metrics.items()}


def judge(
    module: TimelineModule,
    timeline: Timeline,
    split: Split,
    settings: DataSettings,
    subset: str,
    folder: Path,
    config: DictConfig,
) -> Metrics:
    """Predict a subset from pixels, write ``predictions/SUBSET`` and ``metrics.json``, and print the main scores."""
    data = TimelineDataModule(timeline, split, settings, module.fitted, cache=Path(config.paths.cache), once=True)
    bare = {name: config.trainer[name] for name in ("accelerator", "precision", "enable_progress_bar")}
    trainer = pl.Trainer(**bare, devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False)
    questions = split.questions(timeline, subset)
    tables = predict(module, data.loader(subset), timeline, questions, trainer)
    if settings.inputs != "all":
        # A probe sees single positions: it answers questions, but has no course of an event to tell.
        tables = {name: table for name, table in tables.items() if name in ("answers", "maps")}
    if settings.stride > 1:
        # Statements at positions that are not shown cannot be judged.
        tables.pop("statements", None)
    return _score(tables, timeline, split, subset, folder)


def _score(tables: Mapping[str, pd.DataFrame], timeline: Timeline, split: Split, subset: str, folder: Path) -> Metrics:
    """Write the predictions of a subset and what they score, and print the main scores."""
    write_predictions(folder / "predictions" / subset, **that_exist(tables, timeline))
    metrics = score(timeline, split, subset, read_predictions(folder / "predictions" / subset))
    write_metrics(folder / "metrics.json", metrics)
    print_scores(metrics, subset)
    return metrics


@contextmanager
def _refusals() -> Iterator[None]:
    """What a class refuses while Hydra builds it reaches the user as it is, not wrapped in Hydra's own error."""
    try:
        yield
    except InstantiationException as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise


def _plain(node: Any) -> dict[str, Any]:
    content = OmegaConf.to_container(node, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@contextmanager
def _run_folder(folder: Path) -> Iterator[None]:
    """A run that the user's input or Ctrl-C stops before its first checkpoint leaves nothing in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    try:
        yield
    except (InputError, KeyboardInterrupt):
        if any(folder.glob("checkpoints/*.ckpt")):
            raise
        for path in {path for pattern in _WRITTEN for path in folder.glob(pattern)} - before:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        raise


def _fit(trainer: pl.Trainer, module: TimelineModule, data: TimelineDataModule, checkpoint: str | None) -> None:
    """Train. Lightning answers Ctrl-C by leaving the process with code 1; here it stays a `KeyboardInterrupt`."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        if not trainer.interrupted:
            raise
    if trainer.interrupted:
        written = [c.path for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint) and c.path.is_file()]
        raise KeyboardInterrupt(*(f"add ckpt_path={shortened(p)} to the same command to go on" for p in written[:1]))


def _take_over(former: Mapping[str, Any], checkpoint: str, trainer: pl.Trainer) -> None:
    """Say where the run goes on, and begin its log with what the former run logged before."""
    if trainer.is_global_zero:
        _LOG.info("Going on after %s.", describe_place(former))
        go_on_with(read_course(Path(checkpoint).absolute().parent.parent, former["global_step"]), trainer.loggers)


def _finish(trainer: pl.Trainer) -> None:
    """Close a W&B run: the next run of a sweep would be logged into it otherwise."""
    if any(isinstance(logger, pl.loggers.WandbLogger) for logger in trainer.loggers):
        import wandb

        wandb.finish()


def _record(config: DictConfig, temporal: str, parameters: int, timeline: Timeline, split: Split) -> dict[str, Any]:
    return {
        "name": config.name,
        "model": config.model.name,
        "temporal": temporal,
        "inputs": config.data.inputs,
        "seed": int(config.seed),
        "tags": list(config.tags),
        "dataset_root": str(timeline.root.absolute()),
        "dataset_fingerprint": timeline.meta.fingerprint,
        "split": {**split.record, "path": f"splits/{split.name}.csv"},
        "n_parameters": parameters,
        **describe_environment(),
    }


def check_same_data(content: Mapping[str, Any], timeline: Timeline, split: Split, path: str) -> None:
    """Refuse data or a split that a checkpoint was not trained with.

    Raises:
        InputError: a fingerprint differs.
    """
    saved = content["hyper_parameters"]["provenance"]
    for what, expected, found in (
        ("dataset", saved["dataset"]["fingerprint"], timeline.meta.fingerprint),
        ("split", saved["split"]["fingerprint"], split.fingerprint),
    ):
        if expected != found:
            raise InputError(
                f"the {what} the checkpoint was trained with (fingerprint {expected[:12]})",
                f"fingerprint {found[:12]} in {timeline.root}",
                str(path),
                "Use that data again; to judge on other data, give both data.root and data.split to evaluate.py.",
            )


def _trainer(config: DictConfig) -> pl.Trainer:
    callbacks = [instantiate(node) for node in config.callbacks.values()]
    callbacks.sort(key=lambda callback: isinstance(callback, LastCheckpoint))  # after all whose state it writes
    logger: Any = False
    if "_target_" in config.logger:
        logger = instantiate(_with_login(config.logger))
    remedy = "Choose other trainer settings, for instance trainer=cpu."
    checkpointing = any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks)
    try:
        return instantiate(
            config.trainer,
            callbacks=callbacks,
            logger=logger,
            plugins=[AtomicCheckpointIO()],
            enable_checkpointing=checkpointing,
            use_distributed_sampler=False,
        )
    except InstantiationException as error:
        if not isinstance(error.__cause__, MisconfigurationException):
            raise
        reason = str(error.__cause__).strip().rstrip(".")
        raise InputError("settings that this machine can run", reason, "trainer", remedy) from error


def _with_login(logger: DictConfig) -> DictConfig:
    """W&B without a login runs offline and says how to send the run later."""
    if not str(logger["_target_"]).endswith("WandbLogger") or logger.get("offline"):
        return logger
    import wandb

    if os.environ.get("WANDB_MODE") in ("offline", "disabled") or wandb.api.api_key:
        return logger
    _LOG.warning("No W&B login: this run is logged offline. Send it later with `wandb sync RUN/wandb/offline-run-*`.")
    changed = logger.copy()
    changed["offline"] = True
    return changed


def store_features(module: TimelineModule, timeline: Timeline, settings: DataSettings, cache: Path) -> FeatureStore:
    """The features that a model's frozen backbone makes of all images, computed unless they are kept already.

    Raises:
        InputError: the backbone is not frozen, or images cannot be read.
    """
    backbone = module.reasoner.backbone
    if learning := sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad):
        raise InputError(
            "a frozen backbone",
            f"one that learns {learning:,} parameters",
            "data.cache_features",
            "Add model.backbone.train=none, or leave data.cache_features out.",
        )

    def encode(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return backbone.eval()(images)

    mode = cast(CacheImages, settings.cache_images)
    return open_features(timeline, module.fitted, backbone, encode, cache, mode)

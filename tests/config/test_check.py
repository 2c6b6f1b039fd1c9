"""Values and arguments that compose but cannot work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from temmed.config.check import check
from temmed.errors import InputError

Composed = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def base(composed: Composed) -> DictConfig:
    return composed("model=memory_fusion")


def changed(base: DictConfig, key: str, value: Any) -> DictConfig:
    """A copy with one key set, new or not, as ``++key=value`` would."""
    config = copy.deepcopy(base)
    OmegaConf.update(config, key, value, force_add=True)
    return config


def test_the_defaults_pass(base: DictConfig) -> None:
    check(base)


@pytest.mark.parametrize(
    ("key", "value"),
    [("data.size", None), ("data.size", [5, 64, 64]), ("data.spacing", 1.5), ("data.spacing", [3, 0.5, 0.5])],
)
def test_axes_by_themselves_pass(base: DictConfig, key: str, value: Any) -> None:
    check(changed(base, key, value))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("sed", 1, "found 'sed'. Did you mean 'seed'?"),
        ("data.batchsize", 8, "found 'batchsize'. Did you mean 'batch_size'?"),
        ("data.split.sead", 8, "found 'sead'. Did you mean 'seed'?"),
        ("seed", -1, "expected at least 0, found -1"),
        ("name", "a/b", "no / or space, found 'a/b'"),
        ("name", "../up", "no / or space, found '../up'"),
        ("name", "${nope}", "Interpolation key 'nope' not found."),
        ("name", "???", "It has no default: give name=VALUE."),
        ("data.batch_size", 0, "expected at least 1, found 0"),
        ("data.num_workers", -1, "expected at least 0, found -1"),
        ("data.patients", 0, "expected at least 1, found 0"),
        ("data.max_questions", 0, "expected at least 1, found 0"),
        ("data.spatial_dims", 4, "expected 2 or 3, found 4"),
        ("data.size", 4, "expected at least 8, found 4"),
        ("data.size", [4, 32], "expected at least 8, found 4"),
        ("data.size", [32], "[rows, columns] or [slices, rows, columns], found [32]"),
        ("data.size", 64.5, "a whole number above 0, or one for each axis"),
        ("data.spacing", 0, "a number above 0, or one for each axis"),
        ("data.spacing", [3, 1, "wide"], "[slices, rows, columns], found [3, 1, 'wide']"),
        ("data.slices", 0, "expected at least 1, found 0"),
        ("data.register", "rigidly", "Did you mean 'rigid'?"),
        ("data.position_dropout", 1.0, "expected less than 1, found 1.0"),
        ("data.position_dropout", -0.1, "expected at least 0 and less than 1, found -0.1"),
        ("data.split.by", "patients", "Did you mean 'patient'?"),
        ("data.split.fractions", [0.5, 0.2, 0.2], "3 positive numbers that sum to 1, found [0.5, 0.2, 0.2]"),
        ("data.split.fractions", [0.5, 0.5], "3 positive numbers that sum to 1"),
        ("data.split.fractions", [0.5, 0.6, -0.1], "3 positive numbers that sum to 1"),
        ("data.split.by", "stratified", "For example: data.split.stratify=[sex,site]."),
        ("data.split.by", "kfold", "For example: data.split.folds=5."),
        ("data.split.by", "file", "For example: data.split.name=official."),
        ("data.split.stratify", ["sex"], "Leave it out, or add data.split.by=stratified."),
        ("data.split.folds", 5, "data.split.by to be kfold, the rules that take data.split.folds, found patient"),
        ("data.split.name", "a/b", "no / or space, found 'a/b'"),
        ("data.split.together", "nowhere.csv", "expected an existing file, or duplicates, found 'nowhere.csv'"),
        ("data.split.few_shot", 0, "expected at least 1, found 0"),
        ("data.split.few_shot_per", "sex", "data.split.few_shot beside it"),
        ("data.inputs", "images", "expected all, text, asked_image or prior_image, found 'images'"),
        ("data.root", "nowhere", "expected an existing folder, or a URL, found 'nowhere'"),
        ("ckpt_path", "nowhere.ckpt", "expected an existing file, found 'nowhere.ckpt'"),
        ("model.heads.evidnce", {"weight": 0.1}, "Did you mean 'evidence'?"),
        ("model.heads.evidence.weight", -1, "expected at least 0, found -1"),
        ("model.heads.report.beams", 0, "expected at least 1, found 0"),
        ("model.heads.report.vocabulary_size", 100, "expected at least 258, found 100"),
        ("model.heads.value.early_weigth", 1.0, "Did you mean 'early_weight'?"),
        ("model.reader.heads", 1, "expected at least 3, found 1"),
        ("model.text.heads", 5, "expected a divisor of model.dim = 64, found 5"),
        ("model.chunk", 0, "expected at least 1, found 0"),
        ("model.carry", "exactly", "Did you mean 'exact'?"),
        ("find_lr", 5, "expected at least 13, found 5"),
        ("compile.part", ["backbone"], "Did you mean 'parts'?"),
        ("trainer.max_epochs", 0, "expected at least 1, found 0"),
        ("trainer.max_epoch", 5, "expected an argument of Trainer, found 'max_epoch'. Did you mean 'max_epochs'?"),
        ("optimizer.lr", 0.0, "expected more than 0, found 0.0"),
        ("optimizer.lr", "high", "expected a number, found 'high'"),
        ("optimizer.lrr", 0.1, "expected an argument of AdamW, found 'lrr'. Did you mean 'lr'?"),
        (
            "model.temporal.capcity",
            4,
            "expected an argument of MemoryFusion, found 'capcity'. Did you mean 'capacity'?",
        ),
        (
            "model.temporal.capacity",
            "four",
            "expected a whole number, found 'four'. It is an argument of MemoryFusion.",
        ),
        ("model.temporal.capacity", "???", "It has no default: give model.temporal.capacity=VALUE."),
        ("model.temporal.capacity", {"a": 1}, "expected a whole number, found a mapping"),
        ("model.temporal._target_", "temmed.models.temporal.memory_fusion.MemoryFuson", "Did you mean 'MemoryFusion'?"),
        ("model.text._target_", "temmed.models.text.built_in.X", "Did you mean 'builtin'?"),
        ("callbacks.extra", {"_target_": "pytorch_lightning.callbacks.EarlyStopping"}, "the argument 'monitor'"),
        (
            "callbacks.extra",
            {"_target_": "pytorch_lightning.callbacks.EarlyStoping", "monitor": "val/loss"},
            "Did you mean 'EarlyStopping'?",
        ),
    ],
)
def test_what_cannot_work_is_refused(base: DictConfig, key: str, value: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        check(changed(base, key, value))
    assert says in str(caught.value)
    assert caught.value.where.startswith(key if key != "data.split.by" else "data.split")


@pytest.mark.parametrize(
    ("model", "argument"),
    [("memory_tokens", "memory"), ("memory_tokens", "segment"), ("windowed_transformer", "window")],
)
def test_what_a_head_keeps_is_at_least_one(composed: Composed, model: str, argument: str) -> None:
    with pytest.raises(InputError, match="expected at least 1, found 0") as caught:
        check(changed(composed(f"model={model}"), f"model.temporal.{argument}", 0))
    assert caught.value.where.startswith(f"model.temporal.{argument}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.split.fractions", [1 / 3, 1 / 3, 1 / 3]),
        ("data.split", {"by": "kfold", "folds": 5, "fold": 4, "few_shot": 8}),
        ("data.split", {"by": "stratified", "stratify": ["sex", "site"], "name": "ours"}),
        ("data.split", {"by": "site", "site": "B"}),
        ("data.patients", None),
        ("data.position_dropout", 0.0),
        ("trainer.max_time", "00:01:00:00"),
        ("optimizer.weight_decay", 0),
        ("data.batch_size", "${data.size}"),
        ("name", "my_run-2.b"),
    ],
)
def test_what_can_work_passes(base: DictConfig, key: str, value: Any) -> None:
    check(changed(base, key, value))


def test_a_partial_call_may_lack_arguments(base: DictConfig) -> None:
    assert base.optimizer._partial_
    whole = changed(base, "optimizer._partial_", False)
    with pytest.raises(InputError, match="the argument 'params' of AdamW"):
        check(whole)

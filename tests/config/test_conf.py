"""Every option of every group composes, holds to the schema and names arguments that exist."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from temmed.config.check import check
from temmed.config.help import defaults, groups
from temmed.config.paths import conf_dir
from temmed.config.schema import GIVEN_AT_RUN_TIME, SCHEMAS, TARGET_RULES

Composed = Callable[..., DictConfig]
OPTIONS = [(group, option) for group, options in groups().items() for option in options]


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{group}={option}" for group, option in OPTIONS])
def test_every_option_composes_and_is_right(group: str, option: str, composed: Composed, tmp_path: Path) -> None:
    given = [f"data.root={tmp_path}"] if (group, option) == ("data", "folder") else []
    config = composed(f"{group}={option}", *given)
    check(config)


@pytest.mark.parametrize("primary", list(SCHEMAS))
def test_every_key_of_the_schema_has_its_default_in_yaml(primary: str, composed: Composed) -> None:
    config = composed(primary=primary)
    assert {field.name for field in dataclasses.fields(SCHEMAS[primary])} == set(config)
    left_open = OmegaConf.to_yaml(config, resolve=False).count("???")
    assert left_open == (1 if primary == "evaluate" else 0)  # only the checkpoint must be given


def test_every_temporal_head_fits_the_default_model(composed: Composed) -> None:
    for name in groups()["model/temporal"]:
        config = composed("model=default", f"model/temporal={name}")
        assert config.model.temporal._target_.split(".")[-2] == name


def test_a_named_baseline_differs_from_the_default_in_name_and_head_only(composed: Composed) -> None:
    default = composed("model=default").model
    for name in set(groups()["model"]) - {"default"}:
        model = composed(f"model={name}").model
        assert model.name == name
        # The one that does not learn has no head, and the one that writes has a language model in place of most parts.
        parts = {"measure": {"measure"}, "clip_vl": {"backbone", "text", "temporal", "heads", "generative"}}
        assert {key for key in model if model[key] != default[key]} <= {"name"} | parts.get(name, {"temporal"})


def test_rules_and_run_time_arguments_name_nodes_that_exist(composed: Composed) -> None:
    config = composed()
    heads = sorted((conf_dir() / "model" / "temporal").glob("*.yaml"))
    config.model.temporal = OmegaConf.merge(*map(OmegaConf.load, heads))  # each has some of the arguments
    config.model.previous_answers = composed("model/previous_answers=own").model.previous_answers
    config.model.generative = composed("model=clip_vl").model.generative
    config.callbacks = composed("callbacks=ema").callbacks
    for key in (*TARGET_RULES, *GIVEN_AT_RUN_TIME):
        assert OmegaConf.select(config, key.removesuffix(".*")) is not None, key


def test_runs_and_jobs_get_folders_of_their_own(composed: Composed) -> None:
    text = (conf_dir() / "train.yaml").read_text(encoding="utf-8")
    assert "dir: ${paths.runs}/train/${name}/${now:%Y-%m-%d_%H-%M-%S-%f}_seed${seed}" in text
    assert "subdir: ${hydra.job.num}_${name}_seed${seed}" in text


def test_defaults_name_options_that_exist() -> None:
    options = groups()
    for primary in SCHEMAS:
        for group, option in defaults(primary).items():
            assert option is None or option in options[group], f"{primary}: {group}={option}"


def test_debug_fast_is_small_but_keeps_every_writer(composed: Composed) -> None:
    fast = composed("debug=fast")
    assert fast.trainer.max_epochs == fast.trainer.limit_train_batches == 1
    assert fast.test is True
    assert fast.callbacks == composed().callbacks


def test_the_language_baseline_has_its_published_settings(composed: Composed) -> None:
    config = composed("experiment=baseline_clip_vl_med2025")
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.seed) == (1e-4, 0.01, 42)
    assert config.optimizer._target_ == "torch.optim.AdamW"
    assert config.data.batch_size * config.data.max_questions * config.trainer.devices == 16
    assert config.scheduler._target_.endswith(".cosine")
    assert config.scheduler.warmup * config.trainer.max_steps == 5000
    assert config.model.generative.dropout == config.model.text.lora.lora_dropout == 0.1
    assert config.model.text.name == "meta-llama/Llama-2-7b-hf"
    assert config.model.backbone.name.startswith("vit_base_patch16_224")
    assert config.data.version == "2024-09"

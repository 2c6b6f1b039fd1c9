"""What a run writes, and that it writes the same again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from omegaconf import OmegaConf

from temmed.predictions.tables import read_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import load_split

#: See conftest.
Outcome = Any
Start = Callable[..., Any]

FIXED = (
    "test/progression/accuracy",
    "test/progression/macro_f1",
    "test/progression/majority",
    "test/progression/chance",
    "test/progression/ceiling",
    "test/measurement/relative_error",
    "test/event/accuracy",
    "test/event/tiou",
)


def test_a_run_folder_is_complete(finished: Outcome, dataset: Path) -> None:
    run = finished.run
    record = json.loads((run / "run.json").read_text())
    timeline = Timeline.open(dataset)
    assert record["dataset_fingerprint"] == timeline.meta.fingerprint
    assert record["split"]["fingerprint"] == load_split(dataset, record["split"]["name"], timeline).fingerprint
    assert {"name", "model", "temporal", "inputs", "seed", "versions", "hardware", "created"} <= set(record)
    assert record["n_parameters"] > 0
    assert record["train_seconds"] > 0
    assert record["train_processor_seconds"] > 0
    config = OmegaConf.load(run / "config.yaml")
    assert (config.data.patients, config.seed, config.paths.run) == (24, 0, str(run))
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_metrics_have_the_fixed_names_and_form(finished: Outcome) -> None:
    metrics = finished.metrics()
    assert set(FIXED) <= set(metrics)
    for entry in metrics.values():
        assert set(entry) == {"value", "low", "high", "n"}
    assert any(key.startswith("test/progression/accuracy/horizon=") for key in metrics)


def test_predictions_answer_every_question_of_the_subset(finished: Outcome, dataset: Path) -> None:
    timeline = Timeline.open(dataset)
    split = load_split(dataset, "patient_seed0", timeline)
    predictions = read_predictions(finished.run / "predictions" / "test")
    questions = split.questions(timeline, "test")
    checked = predictions.check_against(questions, sequences=split.sequences("test")["sequence_id"])
    assert len(checked) == len(questions)


def test_what_is_printed_is_short_and_says_what_to_do_next(finished: Outcome) -> None:
    assert "Scores on test" in finished.output
    assert "temmed compare runs/" in finished.output
    assert str(finished.run.relative_to(finished.run.parents[3])) in finished.output
    assert "Warning" not in finished.message
    assert len(finished.output.splitlines()) < 25


def test_evaluating_gives_the_numbers_of_the_run(finished: Outcome, start: Start) -> None:
    outcome = start(f"ckpt_path={finished.run}/checkpoints/best.ckpt", main="evaluate")
    assert outcome.code == 0, outcome.message
    again = finished.run / "evaluations" / "test" / "metrics.json"
    assert json.loads(again.read_text()) == finished.metrics()
    assert again.read_bytes() == (finished.run / "metrics.json").read_bytes()


def test_another_subset_is_evaluated_where_one_says(finished: Outcome, start: Start, tmp_path: Path) -> None:
    checkpoint = f"ckpt_path={finished.run}/checkpoints/best.ckpt"
    outcome = start(checkpoint, "subset=val", f"out={tmp_path}/val", main="evaluate")
    assert outcome.code == 0, outcome.message
    metrics = json.loads((tmp_path / "val" / "metrics.json").read_text())
    assert {key.split("/")[0] for key in metrics} == {"val"}
    assert (tmp_path / "val" / "predictions" / "val" / "answers.parquet").is_file()


def test_cached_images_change_nothing(finished: Outcome, start: Start, place: Path) -> None:
    entries = place / "data_cache" / "images"
    before = set(entries.glob("*/entry.json"))
    assert start("data.cache_images=always").metrics() == finished.metrics()
    assert len(set(entries.glob("*/entry.json")) - before) == 1


@pytest.mark.slow
def test_one_seed_gives_one_result_whatever_the_workers(finished: Outcome, start: Start) -> None:
    assert start().metrics() == finished.metrics()
    assert start("data.num_workers=2").metrics() == finished.metrics()
    assert start("seed=1").metrics() != finished.metrics()


def test_a_resumed_run_ends_like_one_that_was_not_stopped(start: Start) -> None:
    # What goes by the share of all steps done would go otherwise in a run that is meant to be longer.
    by_share = ("scheduler=constant", "model.heads.value.early_weight=null")
    more = ("trainer.limit_train_batches=2", *by_share)
    whole = start(*more, "trainer.max_epochs=3")
    half = start(*more, "trainer.max_epochs=2", "test=false")
    rest = start(*more, "trainer.max_epochs=3", f"ckpt_path={half.run}/checkpoints/last.ckpt")
    assert rest.metrics() == whole.metrics()
    assert "Going on after epoch 2." in rest.output
    other = start(*more, "seed=1", f"ckpt_path={half.run}/checkpoints/last.ckpt")
    other.refused("Give the seed of the former run")
    assert "Going on" not in other.output


def test_the_best_epoch_before_a_stop_stays_the_best(finished: Outcome, tmp_path: Path) -> None:
    import torch

    from temmed.training.checkpoint import BestCheckpoint, read_checkpoint

    former = finished.run / "checkpoints"
    saved = read_checkpoint(former / "last.ckpt")["callbacks"]
    callback = BestCheckpoint(dirpath=tmp_path / "new", filename="best", monitor="val/loss", save_last=True)
    score = saved[callback.state_key]["best_model_score"]
    callback.load_state_dict(saved[callback.state_key])
    copy = tmp_path / "new" / "best.ckpt"
    assert copy.read_bytes() == (former / "best.ckpt").read_bytes()
    assert callback.best_model_path == str(copy)
    assert callback.best_model_score == score
    assert list(callback.best_k_models) == [str(copy)]
    assert torch.equal(callback.kth_value, score)


def test_a_sweep_writes_a_folder_for_every_job_and_they_compare(
    start: Start, command: Callable[..., typer.testing.Result], tmp_path: Path
) -> None:
    outcome = start("--multirun", "model=static,mean_pool", "seed=0")
    assert outcome.code == 0, outcome.message
    assert len(outcome.runs) == 2
    assert all((run / "metrics.json").is_file() for run in outcome.runs)
    result = command("compare", *outcome.runs, "--out", tmp_path / "comparison", "--resamples", 50)
    assert result.exit_code == 0, result.output
    assert {path.suffix for path in (tmp_path / "comparison").iterdir()} >= {".html", ".md", ".csv"}


@pytest.mark.parametrize(
    ("logger", "written"),
    [
        ("csv", "metrics.csv"),
        ("tensorboard", "events.out.tfevents.*"),
        ("wandb", "wandb/offline-run-*"),
        ("none", None),
    ],
)
def test_every_logger_runs_without_a_login(start: Start, logger: str, written: str | None) -> None:
    run = start(f"logger={logger}").run
    if written is None:
        assert not list(run.glob("metrics.csv"))
    else:
        assert list(run.glob(written))


def test_a_sweep_logs_each_job_by_itself(start: Start) -> None:
    outcome = start("--multirun", "model=static,mean_pool", "logger=wandb", "test=false")
    assert outcome.code == 0, outcome.message
    assert all(len(list(run.glob("wandb/offline-run-*"))) == 1 for run in outcome.runs)


def test_a_part_of_another_run_is_taken_over(finished: Outcome, start: Start) -> None:
    import torch

    checkpoint = finished.run / "checkpoints" / "best.ckpt"
    run = start("model=static", f"model.start_from={checkpoint}", "model.backbone.train=none", "test=false").run
    before, after = (
        torch.load(path, weights_only=True)["state_dict"] for path in (checkpoint, run / "checkpoints/last.ckpt")
    )
    weights = [name for name in after if name.startswith("reasoner.backbone.") and name.endswith("weight")]
    assert weights
    assert all(torch.equal(before[name], after[name]) for name in weights)


def test_features_of_a_frozen_backbone_are_kept_and_give_the_same(start: Start, place: Path) -> None:
    frozen = ("model.backbone.train=none", "data.position_dropout=0")
    pixels, features = start(*frozen), start(*frozen, "data.cache_features=true")
    assert list((place / "data_cache" / "features").glob("*/entry.json"))
    # The features are kept in half precision.
    for name in FIXED[:1]:
        assert features.metrics()[name]["value"] == pytest.approx(pixels.metrics()[name]["value"], abs=0.1)


@pytest.mark.parametrize("train", ["full", "last-1", "lora"])
def test_features_of_a_backbone_that_learns_are_refused(start: Start, train: str) -> None:
    start("data.cache_features=true", f"model.backbone.train={train}").refused("model.backbone.train=none")

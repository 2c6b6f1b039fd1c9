"""Every option of the configuration trains one step, found in ``conf/`` and not by a list kept here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from temmed.config.paths import conf_dir
from temmed.predictions.tables import read_predictions

#: See conftest.
Start = Callable[..., Any]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (Path(conf_dir()) / group).glob("*.yaml"))


def check_scores(metrics: dict[str, Any]) -> None:
    for entry in metrics.values():
        assert np.isfinite(entry["value"])


@pytest.mark.parametrize("name", options("model/temporal"))
def test_every_temporal_head_trains_in_the_default_model(start: Start, name: str) -> None:
    check_scores(start("model=default", f"model/temporal={name}").metrics())


def test_all_task_heads_train_and_predict(start: Start) -> None:
    outcome = start("model/heads=full")
    check_scores(outcome.metrics())
    assert "test/alignment/statement_error" in outcome.metrics()
    written = read_predictions(outcome.run / "predictions" / "test")
    assert written.statements is not None
    assert written.statements["probability"].between(0, 1).all()


def test_a_model_with_one_task_head_leaves_the_rest_open(start: Start) -> None:
    off = [f"model.heads.{name}.weight=0" for name in ("answer", "value", "evidence", "event")]
    outcome = start("model.heads.statement.weight=1", *off)
    written = read_predictions(outcome.run / "predictions" / "test")
    assert written.answers[["answer", "probabilities", "value", "evidence"]].isna().all(axis=None)
    assert written.events is None
    assert "test/alignment/statement_error" in outcome.metrics()


@pytest.mark.parametrize("name", options("model/reader"))
def test_every_reader_trains_and_tells_where_it_looked(start: Start, name: str) -> None:
    run = start("model=default", f"model/reader={name}").run
    judged = start(f"ckpt_path={run}/checkpoints/best.ckpt", "maps=true", f"out={run}/judged", main="evaluate")
    assert judged.code == 0, judged.message
    assert read_predictions(run / "judged" / "predictions" / "test").maps is not None


def test_a_text_encoder_of_the_hub_is_needed_once(
    start: Start, save_text_encoder: Callable[[Path, str], str], tmp_path: Path
) -> None:
    hub = Path(save_text_encoder(tmp_path / "hub", "bert"))
    run = start("model=static", "model/text=hugging_face", f"model.text.name={hub}").run
    shutil.rmtree(hub)
    judged = start(f"ckpt_path={run}/checkpoints/best.ckpt", main="evaluate")
    assert judged.code == 0, judged.message
    assert json.loads((run / "evaluations/test/metrics.json").read_text()) == json.loads(
        (run / "metrics.json").read_text()
    )
    start("model/text=hugging_face", f"model.text.name={hub}").refused("model.text.name", "hf download")


@pytest.mark.parametrize("name", options("model"))
def test_every_named_model_trains(start: Start, name: str) -> None:
    small = SMALL if name == "clip_vl" else ()
    start(f"model={name}", *small, "test=false").run  # noqa: B018


#: Parts of model=clip_vl that need no network.
SMALL = ("model/text=tiny_llama", "model/backbone=timm")


def test_a_model_that_writes_is_judged_like_every_other(start: Start) -> None:
    run = start("model=clip_vl", *SMALL, "model.generative.longest=4", "data.max_questions=2").run
    judged = start(f"ckpt_path={run}/checkpoints/best.ckpt", main="evaluate")
    assert judged.code == 0, judged.message
    scores = json.loads((run / "metrics.json").read_text())
    assert json.loads((run / "evaluations/test/metrics.json").read_text()) == scores
    written = read_predictions(run / "predictions" / "test").answers
    assert written["rationale"].notna().all()
    assert written.loc[written["probabilities"].notna(), "answer"].notna().all()
    maps = start(f"ckpt_path={run}/checkpoints/best.ckpt", "maps=true", main="evaluate")
    maps.refused("tells where it looked")


def test_the_language_baseline_trains_on_the_data_that_it_names(start: Start) -> None:
    baseline = ("experiment=baseline_clip_vl_med2025", *SMALL, "strategy=single", "trainer.devices=1", "test=false")
    start(*baseline).refused("data.version", "2024-09")
    start(*baseline, "data.version=null").run  # noqa: B018


@pytest.mark.parametrize("name", sorted({*options("experiment")} - {"baseline_clip_vl_med2025"}))
def test_every_experiment_trains(start: Start, name: str) -> None:
    outcome = start("model=static", f"experiment={name}")
    check_scores(outcome.metrics())


#: The mixed set, which is quick, has sequences of all.
SETS = [
    name if name == "mixed" else pytest.param(name, marks=pytest.mark.slow)
    for name in options("data")
    if name != "folder"
]


@pytest.mark.parametrize("name", SETS)
def test_every_built_in_set_trains(start: Start, name: str) -> None:
    check_scores(start(f"data={name}").metrics())


@pytest.mark.parametrize("group", ["optimizer", "scheduler"])
def test_every_optimizer_and_schedule_trains(start: Start, group: str) -> None:
    for name in options(group):
        assert start("model=static", f"{group}={name}", "test=false").code == 0


@pytest.mark.parametrize("reports", ["past", "all"])
def test_reports_can_be_input(start: Start, reports: str) -> None:
    check_scores(start(f"data.reports={reports}").metrics())


def test_volumes_train(start: Start) -> None:
    check_scores(start("data.spatial_dims=3", "data.size=16", "data.patients=16").metrics())


def test_a_folder_split_by_time_trains(start: Start, folder: Path) -> None:
    run = start("data=folder", f"data.root={folder}", "data.split.by=time")
    check_scores(run.metrics())
    assert (folder / "splits" / "time_seed0.csv").is_file()


def test_accumulated_batches_train(start: Start) -> None:
    assert start("trainer.accumulate_grad_batches=2", "trainer.limit_train_batches=3", "test=false").code == 0


@pytest.mark.parametrize("name", options("optimizer"))
def test_every_optimizer_trains_in_mixed_precision(start: Start, name: str) -> None:
    # Gradients are clipped by default, which fused optimizers refuse then.
    check_scores(start(f"optimizer={name}", "trainer.precision=bf16-mixed").metrics())

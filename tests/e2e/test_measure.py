"""``model=measure`` is a run like any other, though nothing is learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer.testing
from omegaconf import OmegaConf

from temmed.predictions.tables import read_predictions
from temmed.timelines.folder import Timeline
from temmed.timelines.splits import load_split

#: See conftest.
Outcome = Any
Start = Callable[..., Any]


def test_it_beats_the_majority_by_far(measured: Outcome) -> None:
    metrics = {name: entry["value"] for name, entry in measured.metrics().items()}
    assert metrics["test/progression/accuracy"] > metrics["test/progression/majority"] + 0.4
    assert metrics["test/progression/accuracy"] > 0.85
    assert metrics["test/event/accuracy"] > 0.85
    assert metrics["test/event/tiou"] > 0.85
    assert metrics["test/measurement/relative_error_median"] < 0.05


def test_it_reads_loops(start: Start) -> None:
    outcome = start("model=measure", "data=ultrasound", "data.patients=24", tiny=())
    metrics = {name: entry["value"] for name, entry in outcome.metrics().items()}
    assert metrics["test/progression/accuracy"] > 0.9 > metrics["test/progression/majority"] + 0.3
    assert metrics["test/event/accuracy"] > 0.8
    assert metrics["test/measurement/relative_error_median"] < 0.03


def test_the_run_folder_says_what_was_done(measured: Outcome) -> None:
    record = json.loads((measured.run / "run.json").read_text())
    assert (record["model"], record["temporal"], record["n_parameters"]) == ("measure", "none", 0)
    config = OmegaConf.load(measured.run / "config.yaml")
    assert set(config.model) == {"name", "measure"}
    assert config.model.measure.mri.field_of_view == 192.0
    assert not (measured.run / "checkpoints").exists()
    assert "Scores on test" in measured.output
    timeline = Timeline.open(record["dataset_root"])
    split = load_split(timeline.root, record["split"]["name"], timeline)
    predictions = read_predictions(measured.run / "predictions" / "test")
    questions = split.questions(timeline, "test")
    predictions.check_against(questions, sequences=split.sequences("test")["sequence_id"])
    assert predictions.events is not None


def test_it_does_not_look_at_answers_evidence_or_stated_sizes(measured: Outcome, start: Start, tmp_path: Path) -> None:
    record = json.loads((measured.run / "run.json").read_text())
    timeline = Timeline.open(record["dataset_root"])
    copy = tmp_path / "blind"
    copy.mkdir()
    (copy / "images").symlink_to(timeline.root / "images")
    for path in timeline.root.glob("*.parquet"):
        table = pd.read_parquet(path)
        if path.stem == "measurements":
            table["value"] = 1.0
        if path.stem == "events":
            table = table.iloc[::-1].assign(onset_lower=None, onset_upper=None, offset_lower=None, offset_upper=None)
        if path.stem == "questions":
            table["answer"] = [None if choices is None else choices[0] for choices in table["choices"]]
            table["value"] = table["value"].where(table["value"].isna(), 1.0)
            table["evidence"] = [[int(position)] for position in table["asked_at"]]
            table["evidence_kind"] = "positions"
            table["horizon_steps"], table["horizon_time"] = 0, 0.0
        table.to_parquet(copy / path.name)
    (copy / "dataset.json").write_bytes((timeline.root / "dataset.json").read_bytes())
    outcome = start("model=measure", "data=folder", f"data.root={copy}", tiny=())
    before, after = (read_predictions(run / "predictions" / "test") for run in (measured.run, outcome.run))
    pd.testing.assert_frame_equal(before.answers, after.answers)
    pd.testing.assert_frame_equal(before.events, after.events)


def test_it_is_compared_with_models_that_learn(
    measured: Outcome, start: Start, command: Callable[..., typer.testing.Result], tmp_path: Path
) -> None:
    other = start("model=static", "debug=fast", "logger=none", "data.patients=40", "data.size=64", tiny=())
    result = command("compare", measured.run, other.run, "--out", tmp_path / "comparison", "--resamples", 50)
    assert result.exit_code == 0, result.output
    assert "measure" in result.output


def test_a_finding_outside_the_atlas_is_refused_before_anything_is_written(start: Start, folder: Path) -> None:
    table = pd.read_parquet(folder / "findings.parquet")
    table["location"] = table["location"].str.replace("left frontal lobe", "liver")
    table.to_parquet(folder / "findings.parquet")
    questions = pd.read_parquet(folder / "questions.parquet")
    questions["prompt"] = questions["prompt"].str.replace("left frontal lobe", "liver")
    questions.to_parquet(folder / "questions.parquet")
    outcome = start("model=measure", "data=folder", f"data.root={folder}", tiny=())
    outcome.refused("model.measure.MODALITY.regions", "expected findings in regions of the atlas", "liver")
    assert not (folder / "splits").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.inputs=text"], ["data.inputs", "expected all"]),
        (["model.measure.mri.radiu=0.1"], ["Did you mean 'radius'?"]),
        (["+model.measure.mri.radiu=0.1"], ["Did you mean 'radius'?"]),
        (["model.measure.mri.radius=far"], ["model.measure.mri.radius", "expected a number"]),
        (["model.measure.mri.sizes=[9,3]"], ["model.measure.*.sizes"]),
        (["data=cxr", "data.patients=12", "data.size=32"], ["expected images of mri,", "found cxr"]),
        (["data.spatial_dims=3", "data.patients=12", "data.size=16"], ["expected images of 2 dimensions"]),
    ],
)
def test_what_cannot_be_measured_is_refused(start: Start, overrides: list[str], words: list[str]) -> None:
    start("model=measure", *overrides).refused(*words)


def test_a_region_is_added_on_the_command_line(start: Start) -> None:
    outcome = start("model=measure", "test=false", "+model.measure.mri.regions={left kidney: [0.5, 0.6]}")
    config = OmegaConf.load(outcome.run / "config.yaml")
    assert list(config.model.measure.mri.regions["left kidney"]) == [0.5, 0.6]
    assert "left frontal lobe" in config.model.measure.mri.regions

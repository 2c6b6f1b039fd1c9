"""`temmed explain`: heat maps, their manifest and a page for a trained run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from temmed.predictions.tables import read_predictions
from temmed.timelines.folder import Timeline

#: See conftest.
Outcome = Any
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def answers(finished: Outcome) -> Any:
    return read_predictions(finished.run / "predictions" / "test").answers.set_index("question_id")


@pytest.mark.parametrize("method", ["attention", "grad_cam", "integrated_gradients"])
def test_maps_a_manifest_and_a_page(
    method: str, finished: Outcome, dataset: Path, answers: Any, tmp_path: Path, command: Command
) -> None:
    questions = Timeline.open(dataset).table("questions").set_index("question_id")
    with_choices = [name for name in answers.index if answers.loc[name, "probabilities"] is not None]
    valued = [name for name in answers.index if answers.loc[name, "probabilities"] is None]
    chosen = [with_choices[0], valued[0]]
    out = tmp_path / "out"
    words = ["--method", method, "--question", chosen[0], "--question", chosen[1], "--steps", 4]
    result = command("explain", finished.run, *words, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"Open {out / 'explanations.html'}." in result.output
    manifest = json.loads((out / "explanations.json").read_text())
    checkpoint = finished.run / "checkpoints" / "best.ckpt"
    assert manifest["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert (manifest["model"], manifest["method"], manifest["subset"]) == ("finished", method, "test")
    assert [told["question_id"] for told in manifest["questions"]] == chosen
    page = (out / "explanations.html").read_text()
    for told in manifest["questions"]:
        question, answer = questions.loc[told["question_id"]], answers.loc[told["question_id"]]
        assert told["prompt"] == question["prompt"]
        assert told["evidence"] == list(question["evidence"])
        assert told["cited"] == list(answer["evidence"])
        if told["choices"]:
            assert told["answer"] == answer["answer"]
            assert told["choices"] == list(question["choices"])
            assert told["probabilities"] == pytest.approx(list(answer["probabilities"]), abs=1e-5)
        else:
            assert told["answer"] is None
            assert told["value"] == pytest.approx(answer["value"], rel=1e-4)
            assert told["true_value"] == question["value"]
        points = told["points"]
        assert [point["position"] for point in points] == list(range(question["asked_at"] + 1))
        assert sum(point["relevance"] for point in points) == pytest.approx(1, abs=1e-6)
        assert sum(point["memory"] for point in points) == pytest.approx(1, abs=1e-4)
        assert all(point["relevance"] == 0 for point in points if not point["has_image"])
        with np.load(out / told["maps"]) as arrays:
            assert arrays["positions"].tolist() == [point["position"] for point in points if point["has_image"]]
            assert arrays["relevance"].shape[0] == len(arrays["positions"])
            total = float(arrays["relevance"].sum())
        if method == "integrated_gradients":
            assert total == pytest.approx(told["gained"] + told["error"], abs=1e-4)
        assert f'id="{told["question_id"]}"' in page
    assert page.count('class="heat"') > 0
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_questions_are_drawn_of_every_template(finished: Outcome, dataset: Path, command: Command) -> None:
    questions = Timeline.open(dataset).table("questions").set_index("question_id")
    result = command("explain", finished.run, "--number", 4)
    assert result.exit_code == 0, result.output
    out = finished.run / "explanations" / "attention"
    told = json.loads((out / "explanations.json").read_text())["questions"]
    templates = {questions.loc[one["question_id"], "template"] for one in told}
    assert len(told) == len(templates) == 4
    refused = command("explain", finished.run)
    assert refused.exit_code == 2
    assert "a folder with content" in refused.stderr
    assert command("explain", finished.run, "--number", 1, "--overwrite").exit_code == 0
    assert len(list((out / "maps").iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--question", "nothing"), ("a question of the test subset", "'nothing'", "does not have")),
        (("--method", "gradcam"), ("--method", "'gradcam'", "grad_cam")),
        (("--subset", "all"), ("--subset", "'all'", "train")),
    ],
)
def test_what_cannot_be_explained_is_refused(
    finished: Outcome, tmp_path: Path, command: Command, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    result = command("explain", finished.run, *words, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    for part in told:
        assert part in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_model_is_refused(measured: Outcome, tmp_path: Path, command: Command) -> None:
    result = command("explain", measured.run, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "best.ckpt" in result.stderr
    result = command("explain", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "a run folder" in result.stderr

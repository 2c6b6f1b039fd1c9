from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from temmed.cli import app
from temmed.errors import InputError
from temmed.timelines.audit import audit
from temmed.timelines.debias import DROPPED_FILE, REPORT_FILE, write_debiased
from temmed.timelines.folder import Timeline
from temmed.timelines.shortcuts import NOTABLE, clustered_interval, guess_questions

Tables = dict[str, pd.DataFrame]
Build = Callable[..., Path]
PATIENTS, EACH = 60, 3
VERDICTS = ["progressed", "stable", "regressed"]


def make(leak: str, seed: int = 0) -> Tables:
    """Image-free tables with 180 questions; ``leak`` is what tells most of the answers: nothing, prompt or site."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(PATIENTS), EACH)
    answers = rng.integers(0, 3, PATIENTS * EACH)
    if leak == "site":
        answers = np.repeat(rng.integers(0, 3, PATIENTS), EACH)
    words = np.array(["cyst", "nodule", "lesion"])
    told = np.where(rng.random(len(answers)) < 0.9, answers, rng.integers(0, 3, len(answers)))
    said = words[told] if leak == "prompt" else words[rng.integers(0, 3, len(answers))]
    sites = np.array(["n", "s", "w"])[answers[::EACH] if leak == "site" else rng.integers(0, 3, PATIENTS)]
    patients, sequences = [f"p{n:03d}" for n in range(PATIENTS)], [f"s{n:03d}" for n in range(PATIENTS)]
    return {
        "patients": pd.DataFrame({"patient_id": patients, "site": sites, "age": rng.uniform(30, 80, PATIENTS)}),
        "sequences": pd.DataFrame(
            {"sequence_id": sequences, "patient_id": patients, "modality": "ct", "time_unit": "day", "spatial_dims": 2}
        ),
        "timepoints": pd.DataFrame(
            {
                "sequence_id": np.repeat(sequences, 4),
                "position": np.tile(range(4), PATIENTS),
                "time": np.tile([0.0, 31.0, 58.0, 93.0], PATIENTS),
            }
        ),
        "images": pd.DataFrame({"sequence_id": [], "position": [], "channel": [], "path": [], "frame": []}),
        "questions": pd.DataFrame(
            {
                "question_id": [f"q{n:04d}" for n in range(len(answers))],
                "sequence_id": np.array(sequences)[number],
                "task": "progression",
                "template": "change",
                "prompt": [f"How did the {word} change?" for word in said],
                "asked_at": np.tile([1, 2, 3], PATIENTS),
                "choices": [VERDICTS] * len(answers),
                "answer": np.array(VERDICTS)[answers],
                "evidence": [[0]] * len(answers),
                "evidence_kind": "positions",
            }
        ),
    }


def gains(timeline: Timeline) -> dict[str, bool]:
    families = guess_questions(timeline, sample=None).families
    return dict(zip(families["guesser"], families["guessable"], strict=True))


@pytest.mark.parametrize(
    ("leak", "expected"),
    [
        ("nothing", {"text": False, "metadata": False}),
        ("prompt", {"text": True, "metadata": False}),
        ("site", {"text": False, "metadata": True}),
    ],
)
def test_the_guesser_that_sees_the_leak_finds_it(leak: str, expected: dict[str, bool], build: Build) -> None:
    timeline = Timeline.open(build(make(leak)))
    guesses = guess_questions(timeline, sample=None)
    assert dict(zip(guesses.families["guesser"], guesses.families["guessable"], strict=True)) == expected
    assert len(guesses.items) == PATIENTS * EACH
    probabilities = guesses.items[["text_probability", "metadata_probability"]]
    assert probabilities.to_numpy().min() >= 0
    assert probabilities.to_numpy().max() <= 1
    np.testing.assert_allclose(guesses.items["bias"], probabilities.max(axis=1) - 1 / 3)
    warned = [one for one in audit(timeline) if one.rule == "guessable" and one.severity == "warning"]
    assert [one.count for one in warned] == ([1] if leak != "nothing" else [])


def test_an_answer_known_for_a_patient_is_not_learned_from_the_same_patient(build: Build) -> None:
    """Answers constant within a patient and told by nothing else give nothing, as patients are held out whole."""
    tables = make("site")
    tables["patients"]["site"] = "n"
    assert gains(Timeline.open(build(tables))) == {"text": False, "metadata": False}


def test_questions_with_other_choices_each_are_guessed_by_their_place(build: Build) -> None:
    tables = make("nothing")
    rng = np.random.default_rng(3)
    offered = [[f"time point {n}" for n in rng.permutation(30)[:4]] for _ in range(PATIENTS * EACH)]
    tables["questions"]["choices"] = offered
    tables["questions"]["answer"] = [choices[2] for choices in offered]
    guesses = guess_questions(Timeline.open(build(tables)), sample=None)
    assert guesses.families["accuracy"].min() > 0.9
    assert guesses.families["majority"].iloc[0] == pytest.approx(0.25)


def test_numbers_are_guessed_by_quarter_and_small_families_are_named(build: Build) -> None:
    tables = make("nothing")
    questions = tables["questions"].assign(answer=None, choices=None, value=np.arange(PATIENTS * EACH) * 1.0)
    few = make("nothing")["questions"].head(9).assign(template="rare", question_id=[f"r{n}" for n in range(9)])
    tables["questions"] = pd.concat([questions, few], ignore_index=True)
    guesses = guess_questions(Timeline.open(build(tables)))
    assert guesses.skipped == {"rare": 9}
    assert guesses.families["majority"].tolist() == pytest.approx([0.25, 0.25], abs=0.01)


def test_the_interval_is_that_of_the_clusters_means() -> None:
    """With clusters of one size the mean's interval is that of the means of the clusters."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=40)
    values = np.repeat(means, 5)
    low, high = clustered_interval(values, np.repeat(np.arange(40), 5))
    half = 2.0227 * means.std(ddof=1) / np.sqrt(40)
    assert (low, high) == pytest.approx((means.mean() - half, means.mean() + half), rel=1e-3)


@pytest.mark.parametrize("leak", ["prompt", "site"])
def test_a_debiased_folder_can_no_longer_be_guessed(leak: str, build: Build, tmp_path: Path) -> None:
    source = Timeline.open(build(make(leak)))
    result = write_debiased(source, tmp_path / "out")
    made = Timeline.open(tmp_path / "out")
    dropped = pd.read_csv(tmp_path / "out" / DROPPED_FILE)
    assert len(made.table("questions")) + len(dropped) == len(source.table("questions"))
    assert not set(dropped["question_id"]) & set(made.table("questions")["question_id"])
    assert set(dropped["guesser"]) == {"text" if leak == "prompt" else "metadata"}
    worst_before, worst_after = result.before["low"].max(), result.after["low"].max()
    assert worst_before > NOTABLE > worst_after or len(dropped) == PATIENTS * EACH // 2
    assert made.table("patients").equals(source.table("patients"))
    assert made.meta.provenance["debiased"]["from"] == source.meta.fingerprint
    report = json.loads((tmp_path / "out" / REPORT_FILE).read_text())
    assert sum(row["questions"] for row in report["dropped"]) == len(dropped)


def test_nothing_is_dropped_where_nothing_can_be_guessed(build: Build, tmp_path: Path) -> None:
    source = Timeline.open(build(make("nothing")))
    assert write_debiased(source, tmp_path / "out").dropped.empty
    pd.testing.assert_frame_equal(
        Timeline.open(tmp_path / "out").table("questions"), source.table("questions"), check_dtype=False
    )
    with pytest.raises(InputError, match="a folder with content"):
        write_debiased(source, tmp_path / "out")


def test_the_command_writes_scores_and_a_debiased_folder(build: Build, tmp_path: Path) -> None:
    root = build(make("prompt"))
    scores, out = tmp_path / "scores.csv", tmp_path / "out"
    arguments = ["data", "audit", str(root), "--tables-only", "--scores", str(scores), "--debias", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert len(pd.read_csv(scores)) == PATIENTS * EACH
    assert "questions dropped, listed in dropped_questions.csv" in result.stdout
    assert Timeline.open(out).meta.version == "1+debiased"
